"""Signed lists of nuisance numbers, as tokens, for handsets and other operators.

May import `features`, `serving.bundle` and `serving.rules`. Start with `token_list`.
"""
