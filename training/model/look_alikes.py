"""Takes the weight of rows that are assumed innocent and resemble reported nuisance callers."""

from __future__ import annotations

from dataclasses import replace

import lightgbm as lgb
import numpy as np

from .fit import cv_folds, lightgbm_parameters, without_stopping
from .matrix import Matrix

TREES = 100


def without_look_alikes(matrix: Matrix, columns: list[int], probability: float, *, seed: int, threads: int) -> Matrix:
    """Returns the matrix with no weight on rows that are assumed innocent and resemble reported nuisance callers.

    Some nuisance numbers are never reported. Learnt as innocent, they hide how such numbers begin. So a light model of
    the other groups scores each row, and a row above `probability` teaches neither kind: Liu et al., Building Text
    Classifiers Using Positive and Unlabeled Examples (ICDM 2003), take such rows out in the same way.
    """
    if not matrix.assumed.any():
        return matrix
    fold, X, score = cv_folds(matrix.group, matrix.y, seed), matrix.X[:, columns], np.zeros(len(matrix.y))
    settings = without_stopping(lightgbm_parameters(len(score), classes=1, seed=seed, threads=threads, parameters=None))
    data = lgb.Dataset(X, matrix.y, weight=matrix.weight, params=settings, free_raw_data=False).construct()
    for held_out in range(int(fold.max()) + 1 if fold.any() else 0):
        inside = fold != held_out
        model = lgb.train(settings, data.subset(np.flatnonzero(inside)), num_boost_round=TREES)
        rows = np.flatnonzero(~inside & matrix.assumed)
        score[rows] = model.predict(X[rows], num_threads=threads)
    return replace(matrix, weight=np.where(matrix.assumed & (score > probability), 0.0, matrix.weight))
