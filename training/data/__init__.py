"""Calls, complaints, findings and labels as known at a cutoff: the input of a training.

Imports `features` and `serving`. Start with `dataset`, then `labels`.
"""
