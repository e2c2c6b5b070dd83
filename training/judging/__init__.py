"""What a trained model is worth: figures, baselines and leak probes, on its own calls or on others.

Imports `data`, `log`, `model`. Start with `judge`; `figures` and `run_figures` have the types of all that
is measured.
"""
