"""Drift: whether a day of calls still looks like the days that the model was trained and certified on.

Imports `data`, `log` and `model`. Start with `monitor`; `days` computes a day's figures, `reference` what is usual.
"""
