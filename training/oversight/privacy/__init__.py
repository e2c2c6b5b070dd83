"""Expiry, deletion, rekeying and export of personal data at rest.

Imports `data`, `log`. Start with `subject` for a person, `retention_run` for expiry.
"""
