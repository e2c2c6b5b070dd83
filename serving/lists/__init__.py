"""Signed lists of nuisance tokens for handsets and other operators.

Imports `bundle`, `rules`. Start with `token_list`.
"""
