"""Compares the simulated world with real call records.

Imports callsieve. Start with `comparison`; `tests/bench/bench_realism.py` runs it.
"""
