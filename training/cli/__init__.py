"""The `callsieve` command: options, tables for the terminal, one file for each group of commands.

Imports everything; nothing imports it. Start with `main`.
"""
