"""Reliability campaigns C10 to C12: an outage, ladders under random words, a hundred thousand timers."""
