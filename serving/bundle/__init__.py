"""A model on disk: save, sign, verify, open, predict, and explain by exact contributions.

Imports `features` only. Start with `bundle`.
"""
