"""What every population needs: the scenario, time, random draws, numbers, planned calls.

Imports `features` only. Start with `scenario`.
"""
