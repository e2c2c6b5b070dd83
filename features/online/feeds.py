"""Feeds: what the call records of a system contain.

A threshold holds on the feed that it was certified on. Where no incoming call is ever recorded, every caller looks like
one that nobody calls back; where only answered calls are recorded, nobody hangs up on a caller.
"""

from __future__ import annotations

COMPLETE, ANSWERED_ONLY, OUTGOING_ONLY = "complete", "answered only", "outgoing only"
NO_ROUTES, NO_RING_TIME = "no routes", "no ring time"
FEEDS = (COMPLETE, ANSWERED_ONLY, OUTGOING_ONLY, NO_ROUTES, NO_RING_TIME)
"""All feeds that a bundle may have bands for.

"answered only": no unanswered call is recorded. "outgoing only": no call to a scored caller is recorded. "no routes":
neither trunk nor device is recorded. "no ring time": the ring time is always 0 or missing.
"""
UNKNOWN_FEED = "unknown"
"""The feed of records that lack several of these, or one only in part."""
