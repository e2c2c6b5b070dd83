"""Tables of a simulated world: call records, complaints, findings, registers.

Imports `basis`, `callers`. Start with `arrow_tables`.
"""
