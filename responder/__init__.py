"""Answers Prometheus alerts with runbooks: acts within limits, verifies the result and tells people.

Holds the version only, so that importing any module of the package loads nothing it did not ask for.
"""

__version__ = "0.1.0"
