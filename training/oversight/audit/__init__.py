"""Compares MLflow, the run folder and the audit log with each other; promotion and rollback.

Imports `data`, `judging`, `log`, `reports`, `tracking`. Start with `verify`.
"""
