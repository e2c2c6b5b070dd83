"""Scores a file of calls, or a table on Spark, exactly as the scorer would have scored each call live.

Needs the train extra. Imports `features`, `bundle`, `custody`, `live`, `rules` and `scorer`. Start with `score`.
"""
