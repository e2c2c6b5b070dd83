"""A run written into MLflow, read back, reproduced and exported.

Imports `data`, `drift`, `log`, `model`, `reports`. Start with `mlflow_write`.
"""
