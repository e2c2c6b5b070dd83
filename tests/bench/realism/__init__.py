"""How like real call records the simulated world is.

Imports callsieve. Start with `comparison`; `tests/bench/bench_realism.py` runs it.
"""
