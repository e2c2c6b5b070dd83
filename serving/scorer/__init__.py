"""The thin scorer: a history and a call go in, a verdict with reasons comes out.

May import `features`, `serving.bundle` and `serving.rules`. Start with `scorer.Scorer`.
"""
