"""The online engine: one history in memory that observes calls and returns the vector of a call at ring time.

Imports `catalogue`, `codegen`, `files`, `keys`, `kernel`, `stream`. Start with `history`.
"""
