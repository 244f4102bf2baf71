"""Networks: which addresses each setting refuses, and what is no setting."""

from __future__ import annotations

import re
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foreman.config.networks import Networks, plain

#: One address for each row of the table: 18 of IPv4, 5 within 2000::/3, 10 outside of it, and one that is mapped.
REFUSED = (
    *("0.1.2.3", "10.1.2.3", "100.64.0.1", "127.0.0.1", "169.254.169.254", "172.16.0.1", "192.0.0.8", "192.0.2.1"),
    *("192.31.196.1", "192.52.193.1", "192.88.99.1", "192.168.1.1", "192.175.48.1", "198.18.0.1", "198.51.100.1"),
    *("203.0.113.1", "224.0.0.1", "255.255.255.255"),
    *("2001::1", "2001:db8::1", "2002:7f00:1::", "2620:4f:8000::1", "3fff::1"),
    *("::", "::1", "::127.0.0.1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "5f00::1", "fc00::1", "fe80::1", "fec0::1"),
    *("ff02::1", "::ffff:127.0.0.1"),
)
PUBLIC = ("93.184.216.34", "1.1.1.1", "2606:4700:4700::1111", "2a00:1450:4001:80b::200e", "::ffff:8.8.8.8")
LOCAL = ("10.1.2.3", "172.31.255.255", "192.168.1.7", "127.0.0.1", "127.8.9.10", "100.127.255.255", "::1", "fd12::7")
NEVER_LOCAL = ("169.254.169.254", "fe80::1", "224.0.0.1", "ff02::1", "0.0.0.0", "::", "255.255.255.255")
BESIDE_A_ROW = (
    *("1.0.0.0", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255", "128.0.0.0"),
    *("169.253.255.255", "169.255.0.0", "172.15.255.255", "172.32.0.0", "192.0.1.0", "192.0.3.0", "192.31.195.255"),
    *("192.52.194.0", "192.88.98.255", "192.167.255.255", "192.169.0.0", "192.175.49.0", "198.17.255.255"),
    *("198.20.0.0", "198.51.99.255", "203.0.114.0", "223.255.255.255"),
    *("2000::", "2001:200::", "2001:db7::", "2001:db9::", "2003::", "2620:4f:7fff::", "2620:4f:8001::", "3fff:1000::"),
)

addresses = st.ip_addresses()


def refusal(text: str, address: str) -> str | None:
    return Networks.parse(text).refusal(ip_address(address))


def test_the_list_has_34_addresses():
    assert len(set(REFUSED)) == 34


@pytest.mark.parametrize("address", REFUSED)
def test_public_refuses_an_address_of_every_row_of_the_table(address):
    assert refusal("public", address)


@pytest.mark.parametrize("address", PUBLIC)
@pytest.mark.parametrize("text", ["public", "lan"])
def test_public_addresses_pass(text, address):
    assert refusal(text, address) is None


@pytest.mark.parametrize("address", BESIDE_A_ROW)
def test_no_row_of_the_table_is_wider_than_it_says(address):
    assert refusal("public", address) is None


@pytest.mark.parametrize("address", LOCAL)
def test_lan_opens_private_and_loopback_addresses(address):
    assert refusal("lan", address) is None
    assert refusal("public", address)


@pytest.mark.parametrize("address", NEVER_LOCAL)
def test_lan_never_opens_link_local_multicast_unspecified_or_broadcast(address):
    assert refusal("lan", address)


def test_lan_opens_nothing_else_of_the_table():
    opened = {address for address in REFUSED if refusal("lan", address) is None}
    assert opened == {
        *("10.1.2.3", "100.64.0.1", "127.0.0.1", "172.16.0.1", "192.168.1.1"),
        *("::1", "fc00::1", "::ffff:127.0.0.1"),
    }


@pytest.mark.parametrize(
    ("text", "address", "words"),
    [
        ("lan", "169.254.169.254", "a link-local address"),
        ("lan", "fe80::1%eth0", "a link-local address"),
        ("public", "127.0.0.1", "a loopback address"),
        ("public", "::ffff:127.0.0.1", "a loopback address"),
        ("lan", "ff02::1", "a multicast address"),
        ("lan", "0.0.0.0", "the unspecified address"),
        ("lan", "255.255.255.255", "the broadcast address"),
        ("public", "10.1.2.3", "not a public address"),
        ("10.0.0.0/8", "93.184.216.34", "in none of the networks that were named"),
    ],
)
def test_a_refusal_says_what_is_wrong_with_the_address(text, address, words):
    assert refusal(text, address) == words


@given(addresses, st.sampled_from(["10.0.0.0/8", "169.254.0.0/16", "192.168.1.7", "fd00::/8", "::/0", "0.0.0.0/0"]))
def test_a_network_opens_just_itself(address, text):
    meant = getattr(address, "ipv4_mapped", None) or address
    assert (Networks.parse(text).refusal(address) is None) == (meant in ip_network(text))


@given(addresses)
def test_a_list_opens_what_one_of_its_items_opens(address):
    items = ["public", "10.0.0.0/8", "fe80::1"]
    alone = [Networks.parse(item).refusal(address) is None for item in items]
    assert (Networks.parse(", ".join(items)).refusal(address) is None) == any(alone)


@given(st.ip_addresses(v=4), st.sampled_from(["lan", "public", "10.0.0.0/8"]))
def test_ipv4_mapped_into_ipv6_is_judged_as_ipv4(address, text):
    networks = Networks.parse(text)
    assert networks.refusal(ip_address(f"::ffff:{address}")) == networks.refusal(address)


@given(st.ip_addresses(v=6), st.sampled_from(["lan", "public", "fe80::/10"]))
def test_a_scope_id_changes_nothing(address, text):
    networks = Networks.parse(text)
    scoped = ip_address(f"{address}%eth0")
    assert networks.refusal(scoped) == networks.refusal(address)
    assert plain(scoped) == plain(address)


@pytest.mark.parametrize("text", ["lan", "Public", "10.0.0.0/8,fd00::/8", "public, 192.168.1.7"])
def test_networks_are_written_as_they_were_given(text):
    assert str(Networks.parse(text)) == text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "an item of the list is empty"),
        ("lan,,public", "an item of the list is empty"),
        ("wan", "an item is neither lan, public nor a network such as 10.0.0.0/8"),
        ("10.0.0.0/255.0.0.0", "an item is neither lan, public nor a network such as 10.0.0.0/8"),
        ("fe80::1%eth0", "an item is neither lan, public nor a network such as 10.0.0.0/8"),
        ("10.0.0.0/33", "10.0.0.0/33 is not a network such as 10.0.0.0/8"),
        ("010.0.0.0/8", "010.0.0.0/8 is not a network such as 10.0.0.0/8"),
        ("127.1", "127.1 is not a network such as 10.0.0.0/8"),
        (
            "10.1.2.3/8",
            "10.1.2.3/8 is an address within a network: write 10.0.0.0/8, or the address without its prefix",
        ),
        ("::ffff:10.0.0.0/104", "::ffff:10.0.0.0/104 is IPv4 written as IPv6: write it as IPv4"),
    ],
)
def test_what_is_no_list_of_networks_is_refused_with_a_sentence(text, words):
    with pytest.raises(ValueError, match=f"^{re.escape(words)}$"):
        Networks.parse(text)


@pytest.mark.parametrize("address", ["100.100.100.200", "168.63.129.16", "fd00:ec2::254", "fd20:ce::254"])
@pytest.mark.parametrize("word", ["lan", "public"])
def test_where_clouds_serve_their_machines_is_opened_only_by_a_network_that_names_it(word, address):
    assert Networks.parse(word).refusal(ip_address(address)) == "where clouds serve their machines"
    assert Networks.parse(f"{word},{address}").refusal(ip_address(address)) is None
