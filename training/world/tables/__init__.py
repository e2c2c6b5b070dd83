"""What is written down of a simulated world: records, complaints, findings, registers.

Imports `basis`, `callers`. Start with `arrow_tables`.
"""
