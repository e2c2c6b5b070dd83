"""Calls and labels to a judged, recorded, signed bundle."""
