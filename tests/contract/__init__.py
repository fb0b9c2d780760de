"""One table of cases a family (stores, actions, notifiers), run on every member."""
