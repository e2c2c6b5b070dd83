"""Trainings for tests: shortened, recorded without a fit, adapted, of own estimators, and files of their labels."""
