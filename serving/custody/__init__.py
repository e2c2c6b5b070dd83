"""Custody of data: what a folder of data may be used for, and how long its rows are kept.

May import `features` only. Start with `purposes`.
"""
