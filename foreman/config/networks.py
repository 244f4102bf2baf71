"""Which addresses webhooks may go to, judged address by address. Resolves no name and opens no socket."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, Self

IPAddress = IPv4Address | IPv6Address
IPNetwork = IPv4Network | IPv6Network


def _networks(text: str) -> tuple[IPNetwork, ...]:
    return tuple(map(ip_network, text.split()))


#: IPv4 that is not the public internet. A table of our own: `is_private` and `is_global` let some of these through
#: (shared address space, 6to4 relays, multicast) and change with the version of Python.
_NOT_PUBLIC_IPV4: Final = _networks(
    "0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24 192.0.2.0/24 "
    "192.31.196.0/24 192.52.193.0/24 192.88.99.0/24 192.168.0.0/16 192.175.48.0/24 198.18.0.0/15 198.51.100.0/24 "
    "203.0.113.0/24 224.0.0.0/4 240.0.0.0/4"
)
#: All of IPv6 that is handed out to the public, and what in it leads elsewhere: Teredo and 6to4 carry an IPv4 address.
_PUBLIC_IPV6: Final = IPv6Network("2000::/3")
_NOT_PUBLIC_IPV6: Final = _networks("2001::/23 2001:db8::/32 2002::/16 2620:4f:8000::/48 3fff::/20")
_MAPPED: Final = IPv6Network("::ffff:0:0/96")

#: What each word opens beside the public internet. 100.64/10 is where overlay networks such as Tailscale live.
_WORDS: Final = {
    "lan": _networks("10.0.0.0/8 172.16.0.0/12 192.168.0.0/16 127.0.0.0/8 100.64.0.0/10 ::1 fc00::/7"),
    "public": (),
}
#: Where clouds serve their machines, credentials among other things. Only a network that names them opens them.
_METADATA: Final = frozenset(map(ip_address, ("100.100.100.200", "168.63.129.16", "fd00:ec2::254", "fd20:ce::254")))
_WRITTEN: Final = re.compile(r"[0-9A-Fa-f:.]{1,45}(?:/[0-9]{1,3})?")


@dataclass(frozen=True, slots=True)
class Networks:
    """Where webhooks may go: what the words of the setting open, and the networks that it names."""

    text: str
    words: frozenset[str]
    named: tuple[IPNetwork, ...]

    @classmethod
    def parse(cls, text: str) -> Self:
        """From `lan`, `public`, networks and addresses, comma-separated. Raises ValueError with a sentence."""
        items = [item.strip().lower() for item in text.split(",")]
        named = tuple(_network(item) for item in items if item not in _WORDS)
        return cls(text, frozenset(_WORDS.keys() & set(items)), named)

    def refusal(self, address: IPAddress) -> str | None:
        """Why no webhook goes there, in words that follow "it is"; None if it may."""
        address = plain(address)
        if any(address in network for network in self.named) or self._is_within_words(address):
            return None
        return _kind(address) or ("not a public address" if self.words else "in none of the networks that were named")

    def _is_within_words(self, address: IPAddress) -> bool:
        if not self.words or address in _METADATA:
            return False
        return _is_public(address) or any(address in network for word in self.words for network in _WORDS[word])

    def __str__(self) -> str:
        return self.text


def plain(address: IPAddress) -> IPAddress:
    """The address that is meant: IPv4 mapped into IPv6 is that IPv4, and a scope id names an interface of ours."""
    if isinstance(address, IPv4Address):
        return address
    return address.ipv4_mapped or IPv6Address(int(address))


def _network(item: str) -> IPNetwork:
    if not item:
        raise ValueError("an item of the list is empty")
    # ipaddress would also read a scope id, and a netmask in place of the prefix, which is easily meant the other way.
    if not _WRITTEN.fullmatch(item):
        raise ValueError("an item is neither lan, public nor a network such as 10.0.0.0/8")
    try:
        network = ip_network(item, strict=False)
    except ValueError as error:
        raise ValueError(f"{item} is not a network such as 10.0.0.0/8") from error
    if "/" in item and ip_address(item.partition("/")[0]) != network.network_address:
        raise ValueError(f"{item} is an address within a network: write {network}, or the address without its prefix")
    if isinstance(network, IPv6Network) and network.subnet_of(_MAPPED):
        raise ValueError(f"{item} is IPv4 written as IPv6: write it as IPv4")
    return network


def _is_public(address: IPAddress) -> bool:
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _NOT_PUBLIC_IPV4)
    return address in _PUBLIC_IPV6 and not any(address in network for network in _NOT_PUBLIC_IPV6)


def _kind(address: IPAddress) -> str | None:
    # Only words for what the tables above have refused: nothing is decided here.
    kinds = {
        "a loopback address": address.is_loopback,
        "a link-local address": address.is_link_local,
        "a multicast address": address.is_multicast,
        "the unspecified address": address.is_unspecified,
        "where clouds serve their machines": address in _METADATA,
        "the broadcast address": address == IPv4Address("255.255.255.255"),
    }
    return next((words for words, holds in kinds.items() if holds), None)
