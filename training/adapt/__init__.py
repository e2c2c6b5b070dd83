"""Fits a signed bundle to another network, with what is known of its callers. Start with `adapting`."""
