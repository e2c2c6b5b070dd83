"""The auditor's wing: the signed log, its verification, personal data, and reports for regulators.

Start with `log`.
"""
