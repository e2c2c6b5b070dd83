"""A stream of events in one process: state, journal, snapshots, hot swap of the model, cleared callers.

Imports `bundle`, `custody`, `rules`, `scorer`. Start with `live`.
"""
