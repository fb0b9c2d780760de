"""Providers that are not to be had in a test, faked at the wire: they refuse what the real ones refuse.

Closed world: a call that no test expects is kept in `unexpected`, and leaving the fake's context fails on it.
"""
