"""Keyed tokens in place of phone numbers, and the rotation of their keys.

Imports `files` and `dataclass`. Start with `tokens`.
"""
