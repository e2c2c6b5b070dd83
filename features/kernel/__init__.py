"""Window arithmetic of one key, in the subset of Python that translates to C.

Imports nothing of callsieve. Start with `windows`, then `number_state`; `table_pass` runs it over a table.
"""
