"""Live scoring in one process: state, journal, snapshots, replacement of the model, cleared callers.

Imports `bundle`, `custody`, `rules`, `scorer`. Start with `live`.
"""
