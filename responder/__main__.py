"""`python -m responder` is the console script."""

from responder.cli import main

if __name__ == "__main__":
    main()
