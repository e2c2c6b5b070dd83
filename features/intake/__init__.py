"""A call as written becomes a keyed call: number plan, facts and tokens, for one call or a table.

Imports `files`, `keys`. Start with `intake`.
"""
