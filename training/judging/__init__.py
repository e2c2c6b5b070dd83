"""Evaluation of a trained model: figures, baselines and leak probes, on its own calls or on other calls.

Imports `data`, `log`, `model`. Start with `judge`; `figures` and `run_figures` define the types of all
figures.
"""
