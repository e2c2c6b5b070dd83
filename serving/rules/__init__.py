"""Facts before the model, the registers they rest on, and the policy that turns facts and scores into an action.

Imports `bundle`, `custody`. Start with `rules`, then `policy`.
"""
