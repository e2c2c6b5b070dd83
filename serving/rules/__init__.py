"""Rules and policy: the facts that need no model, the registers they rest on, and the action that facts and bands give.

May import `features`, `serving.bundle` and `serving.custody`. Start with `rules`, then `policy`.
"""
