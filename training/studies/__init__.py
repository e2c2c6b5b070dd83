"""Experiments that train several models, or compare worlds, rules and policies.

Imports all packages above it, `run` and `world`. Start with `demo`.
"""
