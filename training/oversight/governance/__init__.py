"""Reports for regulators: parties, disclosure control, sharing, compliance, incidents.

Imports `audit`, `log`, `privacy`, `reports`. Start with `report`.
"""
