"""Reads files of call records in any layout into one table; invalid rows are written to quarantine.

Imports `files`, `keys` and `records`. Start with `call_files`.
"""
