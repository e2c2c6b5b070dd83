"""Appeals: a store, a queue, decisions, notices, and an HTTP service for them; needs the cases extra.

Imports `http`, `live`, `rules`, `scorer`. Start with `store`.
"""
