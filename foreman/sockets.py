"""The sockets that foreman listens on. Knows addresses, nothing of what is served on them."""

from __future__ import annotations

import errno
import socket
from typing import Final

from foreman.config import Address
from foreman.errors import ConfigError

#: What a machine without IPv6, or without IPv4, says to a socket of that family.
NO_SUCH_FAMILY: Final = frozenset({errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EPROTONOSUPPORT})


def listen(address: Address) -> list[socket.socket]:
    """Bound sockets, one for each address family. Raises ConfigError if the address cannot be had.

    `:8080` means every address of the machine, IPv6 and IPv4; a machine without one of them has the other.
    """
    sockets: list[socket.socket] = []
    port, failure = address.port, None
    for host in address.bind_hosts:
        try:
            sockets.append(_bind(host, port))
            port = sockets[0].getsockname()[1]  # with port 0 both families share what the first one got
        except OSError as error:
            failure = error
            if error.errno not in NO_SUCH_FAMILY:
                break
    if failure is not None and (not sockets or failure.errno not in NO_SUCH_FAMILY):
        for sock in sockets:
            sock.close()
        raise ConfigError(f"cannot listen on {address}: {failure.strerror or failure}") from failure
    return sockets


def is_loopback(sock: socket.socket) -> bool:
    """Whether only this machine can reach the socket."""
    host = str(sock.getsockname()[0])
    return host == "::1" or host.startswith("127.")


def _bind(host: str, port: int) -> socket.socket:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, kind, protocol, _, place = found[0]
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(place)
        sock.setblocking(False)
    except OSError:
        sock.close()
        raise
    return sock
