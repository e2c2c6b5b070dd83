"""The command `callsieve evidence`: each stated figure, its command and its last result.

Imports `judging`, `model`, `reports`. Start with `claims`.
"""
