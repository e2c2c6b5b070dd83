"""What a day of calls looks like, and whether today still looks like the training.

Imports `data`, `log`, `model`. Start with `monitor`.
"""
