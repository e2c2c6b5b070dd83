"""The live stream behind HTTP; needs the serve extra.

Imports `bundle`, `live`, `rules`, `scorer`. Start with `app`.
"""
