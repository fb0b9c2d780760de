"""The changes, oldest first. A file here is never edited once it was released: `tables` says what they add up to."""
