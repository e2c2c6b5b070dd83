"""Appeals against verdicts: a case store, a review queue, decisions, notices, and an HTTP service.

Needs the extra `cases`. May import `features`, `serving.http`, `serving.live`, `serving.rules` and `serving.scorer`.
Start with `store`.
"""
