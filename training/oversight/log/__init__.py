"""The signed, append-only audit log, and what enters it before an act: gates, looks, tickets, approvals.

Imports `features`, `serving`. Start with `audit_log`.
"""
