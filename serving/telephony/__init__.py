"""Scoring in telephone switches: SIP headers and replies, Kamailio, Asterisk, and a passive tap.

Imports `live`, `scorer`. Start with `sip`.
"""
