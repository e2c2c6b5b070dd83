"""Calls, complaints, findings and labels as known at a cutoff: what a training starts from.

Imports `features`, `serving`. Start with `dataset`.
"""
