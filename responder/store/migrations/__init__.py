"""The database's history: one file a change, each only adding. Run by `migrating`; there is no configuration file."""
