"""Signed lists of nuisance numbers, as tokens, that operators, sites and handsets exchange; and the discredited firms.

May import `features`, `serving.bundle`, `serving.rules` and `serving.scorer`. Start with `exchange`.
"""
