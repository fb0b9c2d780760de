"""The store: `open_store(url, clock)` answers a `Store`, by which operations are committed and everything is read.

SQLite in one file for one process, PostgreSQL when replicas share the work; the same code and answers (design 6).
"""

from __future__ import annotations

from responder.store.batch import Committed
from responder.store.database import Clock
from responder.store.store import Store, open_store

__all__ = ["Clock", "Committed", "Store", "open_store"]
