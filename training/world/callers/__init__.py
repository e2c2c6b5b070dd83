"""The callers of the simulated world: people, couriers, firms, gangs and robots.

Imports `basis`. Start with `sim`.
"""
