"""Doing what is due: runs, timers and delivery, each one `pass(now) -> next due`; the store is all they share."""
