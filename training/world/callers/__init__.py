"""Who calls in the simulated world: people, couriers, firms, gangs and robots.

Imports `basis`. Start with `people`.
"""
