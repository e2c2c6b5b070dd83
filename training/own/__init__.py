"""Parts of a training that a user brings: an estimator of scikit-learn in place of LightGBM.

Imports `features`, `serving/bundle`. Start with `own_estimator`.
"""
