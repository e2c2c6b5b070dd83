"""Benches of models whose labels are wrong, and of models on another network."""
