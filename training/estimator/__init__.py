"""The training for scikit-learn: a classifier of feature vectors, and a splitter by time and group.

Imports `features`, `serving/bundle`, `model`. Start with `classifier`. A signed model comes from `run.study` alone.
"""
