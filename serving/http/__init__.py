"""Live scoring over HTTP; needs the serve extra.

Imports `bundle`, `live`, `rules`, `scorer`. Start with `app`.
"""
