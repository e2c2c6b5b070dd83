"""Trainings for tests: shortened, recorded without a fit, adapted, and files of their labels."""
