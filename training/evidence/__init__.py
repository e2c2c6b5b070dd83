"""Evidence about the callers of a network, and the labels that models are judged by.

Imports `training/data`. Start with `callers`.
"""
