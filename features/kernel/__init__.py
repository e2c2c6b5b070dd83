"""Window arithmetic of one key, in the subset of Python that compiles to C and to Numba.

Imports nothing of callsieve. Start with `windows`, then `number_state`; `table_pass` runs it over a table.
"""
