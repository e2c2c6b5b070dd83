"""What a folder of data may be used for, and how long its rows are kept.

Imports `features` only. Start with `purposes`.
"""
