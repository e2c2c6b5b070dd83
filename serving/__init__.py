"""Vectors to verdicts."""
