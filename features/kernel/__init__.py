"""The window arithmetic, in the subset of Python that compiles: what an event adds to a number or a group.

Imports nothing of callsieve. Start with `windows`, then `number_state`; `table_pass` runs it over a table.
"""
