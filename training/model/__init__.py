"""Folds, matrix, fit, calibration and certified thresholds: from a data set and settings to a trained model.

Imports `features`, `serving` and `training.data`. Start with `train`.
"""
