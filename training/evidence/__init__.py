"""The command `callsieve evidence`: every stated figure with its command and its last result.

Imports `judging`, `model`, `reports`. Start with `claims`.
"""
