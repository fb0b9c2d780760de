"""The tests; `tests/unit` mirrors `responder/`, the other folders say in their name what they need."""
