"""Turns a call as written into a keyed call: number plan, facts and tokens, for one call or a table.

Imports `files`, `keys`, `records` and `dataclass`. Start with `intake`.
"""
