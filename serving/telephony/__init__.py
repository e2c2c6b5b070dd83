"""SIP replies and headers, Kamailio and Asterisk.

Imports `live`, `scorer`. Start with `sip`.
"""
