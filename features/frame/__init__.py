"""Calls in a pandas DataFrame to feature vectors, for notebooks and scikit-learn.

Imports `catalogue`, `intake`, `keys`, `offline`, `reading`, `records`. Start with `call_features`. The base install has
none of the packages that this needs; `callsieve.features` imports it on first use.
"""
