"""Pages and pictures for people: the run page and the model card.

Imports `judging`. Start with `run_page`.
"""
