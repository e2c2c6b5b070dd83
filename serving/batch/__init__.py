"""Scores a file, or a table on Spark, as the scorer would have scored each call live; needs the train extra.

Imports `bundle`, `custody`, `live`, `rules`, `scorer`. Start with `score`.
"""
