"""Scoring in telephone switches: SIP headers, Kamailio, Asterisk, and a passive tap.

Imports `live`. Start with `sip`.
"""
