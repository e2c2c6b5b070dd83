"""Personal data at rest: expiry, deletion, rekeying, export. One module for each place with personal data.

Imports `data`, `log`. Start with `deletion` for a person, `retention_run` for expiry.
"""
