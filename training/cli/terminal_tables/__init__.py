"""Figures of runs, studies and checks as tables for a terminal.

Imports `judging`, `log` and `reports`. Start with `runs`.
"""
