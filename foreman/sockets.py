"""The sockets that foreman listens on. Knows addresses, nothing of what is served on them."""

from __future__ import annotations

import errno
import socket
from collections.abc import Sequence
from typing import Final
from urllib.parse import urlsplit

from foreman.config.kinds import Address
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
        busy = "; another program, perhaps another foreman, has this port: stop it, or take another"
        words = f"{failure.strerror or failure}{busy if failure.errno == errno.EADDRINUSE else ''}"
        raise ConfigError(f"cannot listen on {address}: {words}") from failure
    return sockets


def must_not_be_itself(target_url: str, addresses: Sequence[tuple[str, int]]) -> None:
    """Raises ConfigError if the target is one of the addresses listened on: each call would wait for itself."""
    target = urlsplit(target_url)
    own_names = {"localhost", "127.0.0.1", "::1", "0.0.0.0", "::", socket.gethostname().lower()}  # noqa: S104
    own_names |= {host for host, _ in addresses}
    if (target.hostname or "") in own_names and (target.port or 80) in {port for _, port in addresses}:
        raise ConfigError(
            f"FOREMAN_OLLAMA_URL={target_url} is foreman's own address; it must be Ollama's, "
            "usually http://127.0.0.1:11434"
        )


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
