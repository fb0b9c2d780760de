"""Changes the guards in small ways and looks whether a test notices: `python -m tests.mutation`."""
