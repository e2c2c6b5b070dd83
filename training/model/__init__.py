"""Folds, matrix, fit, calibration, thresholds and their certificate: a dataset and settings become a trained model.

Imports `data`. Start with `train`.
"""
