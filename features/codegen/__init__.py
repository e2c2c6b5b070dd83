"""Turns catalogue and kernel into code that runs: generated functions, C, and the memory layout.

Imports `catalogue`, `files`, `kernel`, `stream`. Start with `assemble`.
"""
