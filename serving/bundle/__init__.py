"""A trained model on disk: save, sign, verify, open, predict, and explain by exact contributions.

May import `features` only. Start with `bundle`.
"""
