"""What a trained model is worth: figures, baselines and leak probes, on its own calls or on others.

Imports `data`, `log`, `model`. Start with `judge`; `figures` has the types of everything that judging says.
"""
