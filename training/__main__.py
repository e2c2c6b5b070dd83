"""`python -m callsieve.training` is the command `callsieve`."""

from .cli.command_table import main

if __name__ == "__main__":
    main()
