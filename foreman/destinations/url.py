"""A webhook's URL in its parts, read so strictly that it means the same to every parser. Resolves nothing."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv6Address
from typing import Final

LONGEST_URL: Final = 2_048
LONGEST_HOST: Final = 253
DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_HIGHEST_PORT: Final = 65_535

_VISIBLE_ASCII: Final = re.compile(r"[\x21-\x7e]*")
_URL: Final = re.compile(r"(https?)://([^/?]*)(?:[/?].*)?", re.IGNORECASE)
_AUTHORITY: Final = re.compile(r"(\[[^\]]*\]|[^:]*)(?::(.*))?")
_LABEL: Final = r"[A-Za-z0-9_-]{1,63}"
#: What resolvers take for an IPv4 address in another spelling, and what is one in the only one that all agree on.
_NUMBERS: Final = re.compile(r"[0-9.]+")
_OCTET: Final = r"(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_IPV4: Final = re.compile(rf"{_OCTET}(?:\.{_OCTET}){{3}}")
_HOST: Final = re.compile(rf"\[([0-9A-Fa-f:.]+)\]|({_LABEL}(?:\.{_LABEL})*\.?)")


@dataclass(frozen=True, slots=True)
class Destination:
    """A webhook's URL and what it says about the way there."""

    url: str
    scheme: str
    #: Lower case, as in the URL else; IPv6 without its brackets.
    host: str
    port: int
    #: `host:port`, the same for every way to write it.
    receiver: str


def parse_url(url: str) -> Destination:
    """A webhook's URL in its parts. Raises ValueError with a sentence that quotes nothing of it.

    Stricter than any parser of URLs, so that what is accepted means the same to each: if the one that dials found
    another host than this one, there would be a way round all rules.
    """
    if len(url) > LONGEST_URL:
        raise ValueError(f"it must not be longer than {LONGEST_URL:,} characters")
    if not _VISIBLE_ASCII.fullmatch(url):
        raise ValueError("it may hold only visible ASCII characters: write an international name as xn--…")
    if "\\" in url or "#" in url:
        raise ValueError("it must have no backslash and no fragment (#)")
    if (parts := _URL.fullmatch(url)) is None:
        raise ValueError("it must begin with http:// or https://")
    scheme, authority = parts[1].lower(), parts[2].lower()
    if "@" in authority:
        raise ValueError("it must have no user or password in it")
    if (parts := _AUTHORITY.fullmatch(authority)) is None:
        raise ValueError("its host is neither a name nor an address")
    name = _canonical(parts[1])
    port = DEFAULT_PORTS[scheme] if parts[2] is None else _port(parts[2])
    return Destination(url, scheme, parts[1].strip("[]"), port, joined(name, port))


def _port(digits: str) -> int:
    if not re.fullmatch(r"[0-9]{1,5}", digits) or not 0 < int(digits) <= _HIGHEST_PORT:
        raise ValueError(f"its port must be a number from 1 to {_HIGHEST_PORT}")
    return int(digits)


def _canonical(host: str) -> str:
    """The host as one and the same text, without brackets. Raises ValueError if it is none."""
    if not host:
        raise ValueError("it must name a host; an IPv6 address needs brackets")
    if "%" in host:
        raise ValueError("its host must have no % in it, neither for a zone nor to escape a character")
    if len(host.removesuffix(".")) > LONGEST_HOST:
        raise ValueError(f"its host must not be longer than {LONGEST_HOST} characters")
    match = _HOST.fullmatch(host)
    if match is None:
        raise ValueError("its host is neither a name nor an address")
    if match[1] is None:
        name = host.removesuffix(".")
        if _NUMBERS.fullmatch(name) and not _IPV4.fullmatch(name):
            raise ValueError("an IPv4 address is four numbers without zeros in front, such as 192.0.2.7")
        return name
    try:
        return str(IPv6Address(match[1]))
    except ValueError:
        raise ValueError("its host is not an IPv6 address") from None


def joined(host: str, port: int) -> str:
    """`host:port`, with the brackets that IPv6 needs."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
