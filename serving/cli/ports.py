"""A check of the address of a service, before its state and its model are loaded."""

from __future__ import annotations

import socket


def require_free_port(host: str, port: int) -> None:
    """Raises OSError, with the next step, if this process cannot listen on a TCP port."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        reason = (error.strerror or "refused").lower()
        raise OSError(
            f"port {port} of {host}: {reason}; choose another --port or --host, or stop the process that has it"
        ) from None
