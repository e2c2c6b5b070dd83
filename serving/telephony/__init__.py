"""Scoring in telephone switches: SIP headers and replies, Kamailio, Asterisk.

Imports `live`, `scorer`. Start with `sip`.
"""
