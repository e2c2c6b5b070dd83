"""`python -m callsieve.training` is the command `callsieve`."""

from .cli.main import main

if __name__ == "__main__":
    main()
