"""Keyed tokens in place of phone numbers, and the rotation of their keys.

Imports `files`. Start with `tokens`.
"""
