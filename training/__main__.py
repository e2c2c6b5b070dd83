"""The `callsieve` command."""


def main() -> None:
    """Run the command."""
