"""One history in memory: observe a call, ask for its vector, save and load.

Imports `catalogue`, `codegen`, `files`, `keys`, `kernel`, `stream`. Start with `history`.
"""
