"""Timelines on the whole application in virtual time."""
