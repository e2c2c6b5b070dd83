"""Reading HEP3: copies of SIP messages, as Kamailio, OpenSIPS, FreeSWITCH and Asterisk send them to a capture server.

A packet is "HEP3", its length, and chunks: vendor, type, length, value. The chunks that are read here are those of
vendor 0. Source: HEP/EEP revision 36 (sipcapture.org).
"""

from __future__ import annotations

import ipaddress
import struct
from typing import NamedTuple

HEAD = struct.Struct("!4sH")
"""The first bytes of a packet: "HEP3", and the bytes of the whole packet."""
_CHUNK = struct.Struct("!HHH")
_NUMBER = struct.Struct("!I")
_SOURCE_4, _SOURCE_6, _SECONDS, _MICROSECONDS, _PROTOCOL, _PAYLOAD = 0x03, 0x05, 0x09, 0x0A, 0x0B, 0x0F
_SIP = b"\x01"


class Packet(NamedTuple):
    """A SIP message on the wire: Unix seconds of its capture, the IP address that sent it, and its bytes."""

    at: float
    source: str
    message: bytes


def packet_length(head: bytes) -> int:
    """Returns the bytes of a packet by its first bytes. Raises: ValueError: if they are not the head of HEP3."""
    name, length = HEAD.unpack(head)
    if name != b"HEP3" or length < HEAD.size:
        raise ValueError("a packet must start with HEP3 and its length")
    return int(length)


def read_packet(data: bytes) -> Packet | None:
    """Returns the SIP message in a packet; None if the packet carries something else, such as RTCP or a log line.

    Raises: ValueError: if it is not one whole packet of HEP3, or a SIP message without a time or a source.
    """
    if len(data) < HEAD.size or packet_length(data[: HEAD.size]) != len(data):
        raise ValueError("a packet must have the length that it states")
    chunks: dict[int, bytes] = {}
    at = HEAD.size
    while at < len(data):
        if at + _CHUNK.size > len(data):
            raise ValueError("a chunk must have a whole head")
        vendor, kind, length = _CHUNK.unpack_from(data, at)
        if length < _CHUNK.size or at + length > len(data):
            raise ValueError("a chunk must lie within its packet")
        if vendor == 0:
            chunks[kind] = data[at + _CHUNK.size : at + length]
        at += length
    if chunks.get(_PROTOCOL) != _SIP or not chunks.get(_PAYLOAD):
        return None
    try:
        source = ipaddress.ip_address(chunks[_SOURCE_4] if _SOURCE_4 in chunks else chunks[_SOURCE_6])
        (seconds,), (fraction,) = (_NUMBER.unpack(chunks[kind]) for kind in (_SECONDS, _MICROSECONDS))
    except (KeyError, ValueError, struct.error):
        raise ValueError("a packet with SIP must have a source address and a time") from None
    return Packet(seconds + fraction / 1e6, str(source), chunks[_PAYLOAD])
