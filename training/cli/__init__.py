"""The `callsieve` command: the tree of commands, and one file for each group.

Imports every package; no package imports it. Start with `main`.
"""
