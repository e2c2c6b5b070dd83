"""The basis of every population: scenario, time, random draws, numbers, planned calls.

Imports `features` only. Start with `scenario`.
"""
