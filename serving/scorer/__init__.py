"""The thin scorer: a history and a call go in, a verdict with reasons comes out.

Imports `bundle`, `rules`. Start with `scorer`.
"""
