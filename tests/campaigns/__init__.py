"""Reliability campaigns C10 to C12: an outage of every channel, the ladders under random words, a hundred thousand timers."""
