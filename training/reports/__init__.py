"""Pages for people: the run page with its pictures, the model card and the datasheet.

Imports `judging`. Start with `run_page`.
"""
