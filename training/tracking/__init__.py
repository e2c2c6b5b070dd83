"""Runs in MLflow: written, read back, reproduced and exported.

Imports `data`, `drift`, `judging`, `log`, `model`, `reports`. Start with `mlflow_write`.
"""
