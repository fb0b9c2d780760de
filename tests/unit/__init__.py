"""One module of `responder/` a file: no input or output, no sleep, no clock."""
