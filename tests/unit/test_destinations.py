"""Destinations: what is a webhook's URL, which addresses behind it are refused, and that no look-up holds anybody."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import threading
from ipaddress import IPv4Address, ip_address

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from yarl import URL

from foreman.config.networks import Networks
from foreman.destinations import Destination, Destinations, Place, parse_url, resolve
from foreman.destinations.judge import LOOK_HOLDS_S, MOST_LOOKS_AT_ONCE
from foreman.destinations.lookup import in_a_thread_of_its_own
from foreman.errors import AddressRefused
from tests.core import HandClock
from tests.unit.test_networks import LOCAL, NEVER_LOCAL, PUBLIC, REFUSED

TARGET = "http://127.0.0.1:11434"
EVERYWHERE = ("lan", "0.0.0.0/0,::/0")
REMEDY = "FOREMAN_WEBHOOK_NETWORKS says where they may go"
PATIENCE_S = 20.0
#: Spellings that the system's resolver takes for 127.0.0.1 or 0.0.0.0; the eighth, ①②⑦.0.0.1, is no URL to begin with.
SPELLINGS = ("0x7f000001", "2130706433", "0177.0.0.1", "127.1", "0", "[::ffff:127.0.0.1]", "localhost.")
CIRCLED = "http://①②⑦.0.0.1/"


def place(address: str, port: int) -> tuple:
    if ":" in address:
        return (socket.AF_INET6, (address, port, 0, 0))
    return (socket.AF_INET, (address, port))


def as_spelt(host: str) -> Destination:
    """A destination that no parser has looked at."""
    return Destination(f"http://{host}/", "http", host.strip("[]"), 9000, f"{host}:9000")


class Names:
    """A resolver of made-up names, which counts how often it is asked; a name's answers are given in turn."""

    def __init__(self, **answers: str) -> None:
        self.answers = {name.replace("_", "."): text.split() for name, text in answers.items()}
        self.asked: list[str] = []

    async def __call__(self, host, port):
        self.asked.append(host)
        if host not in self.answers:
            raise socket.gaierror(socket.EAI_NONAME, "unknown")
        return [place(address, port) for address in self.answers[host]]


class Hang:
    """A call that really blocks its thread until it is released."""

    def __init__(self) -> None:
        self.reached, self.release = threading.Event(), threading.Event()

    def __call__(self) -> None:
        self.thread = threading.current_thread()
        self.reached.set()
        self.release.wait(PATIENCE_S)


class Held:
    """A resolver whose threads hang, with one answer for all when they are released."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.hang = Hang()
        self.asked = 0

    async def __call__(self, host, port):
        self.asked += 1
        await in_a_thread_of_its_own(self.hang)
        return [place(self.address, port)]


def destinations(networks: str = "lan", names=resolve, target: str = TARGET, **others) -> Destinations:
    return Destinations(Networks.parse(networks), target, names, **others)


def bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address


async def refused(found: Destinations, url: str) -> str:
    with pytest.raises(AddressRefused) as caught:
        await found.places(parse_url(url))
    return str(caught.value)


@pytest.mark.parametrize(
    ("url", "scheme", "host", "port", "receiver"),
    [
        ("http://a.example", "http", "a.example", 80, "a.example:80"),
        ("HTTPS://A.Example/Hook?x=@:1", "https", "a.example", 443, "a.example:443"),
        ("https://a.example.:8443/", "https", "a.example.", 8443, "a.example:8443"),
        ("http://my_receiver:09000?x", "http", "my_receiver", 9000, "my_receiver:9000"),
        ("http://127.0.0.1/", "http", "127.0.0.1", 80, "127.0.0.1:80"),
        ("http://[::1]/", "http", "::1", 80, "[::1]:80"),
        ("http://[FD00:0::7]:81", "http", "fd00:0::7", 81, "[fd00::7]:81"),
    ],
)
def test_a_url_says_whom_it_leads_to(url, scheme, host, port, receiver):
    found = parse_url(url)
    assert (found.scheme, found.host, found.port, found.receiver) == (scheme, host, port, receiver)
    assert found.url == url


@pytest.mark.parametrize(
    ("url", "words"),
    [
        (CIRCLED, "visible ASCII characters: write an international name as xn--"),
        ("http://bücher.example/", "visible ASCII characters: write an international name as xn--"),
        ("http://a.example/a b", "visible ASCII characters"),
        ("http://a.example/\n", "visible ASCII characters"),
        (" http://a.example/", "visible ASCII characters"),
        ("http://a.example/" + "x" * 2048, "longer than 2,048 characters"),
        ("ftp://a.example/", "begin with http:// or https://"),
        ("file:///etc/passwd", "begin with http:// or https://"),
        ("a.example:80/x", "begin with http:// or https://"),
        ("http:/a.example", "begin with http:// or https://"),
        ("", "begin with http:// or https://"),
        ("http://", "name a host"),
        ("http:///hook", "name a host"),
        ("http://:80/", "name a host"),
        ("http://::1/", "needs brackets"),
        ("http://me:secret@a.example/", "no user or password"),
        ("http://@a.example/", "no user or password"),
        ("http://a.example/#top", "no fragment"),
        ("http://a.example#@evil.example/", "no fragment"),
        ("http://a.example\\@evil.example/", "no backslash"),
        ("http://a.example:/", "a number from 1 to 65535"),
        ("http://a.example:0/", "a number from 1 to 65535"),
        ("http://a.example:65536/", "a number from 1 to 65535"),
        ("http://a.example:+80/", "a number from 1 to 65535"),
        ("http://a.example:80:90/", "a number from 1 to 65535"),
        ("http://[fe80::1%25eth0]/", "neither for a zone"),
        ("http://[fe80::1%eth0]/", "neither for a zone"),
        ("http://a%2eexample/", "no % in it"),
        ("http://[::1/", "neither a name nor an address"),
        ("http://[::1]x/", "neither a name nor an address"),
        ("http://[127.0.0.1]/", "not an IPv6 address"),
        ("http://[1:2]/", "not an IPv6 address"),
        ("http://a..example/", "neither a name nor an address"),
        ("http://.example/", "neither a name nor an address"),
        ("http://a,b/", "neither a name nor an address"),
        ("http://" + "a" * 64 + ".example/", "neither a name nor an address"),
        ("http://" + ".".join(["a" * 49] * 5) + ".aaaa/", "longer than 253 characters"),
    ],
)
def test_what_is_no_webhooks_url_is_refused_with_a_sentence(url, words):
    with pytest.raises(ValueError, match=r"^it") as caught:
        parse_url(url)
    assert words in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_host_of_253_characters_is_taken():
    host = ".".join(["a" * 49] * 5) + ".aaa."
    assert parse_url(f"http://{host}/").receiver == f"{host[:253]}:80"


@given(
    st.one_of(
        st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=40).map("http://{}".format),
        st.from_regex(r"https?://[a-zA-Z0-9_.:@\[\]%-]{1,20}(:[0-9]{1,6})?[/?\\#]?[!-~]{0,10}", fullmatch=True),
        st.ip_addresses().map(lambda address: f"HTTP://{bracketed(str(address)).upper()}:8080/x"),
    )
)
@example("http://a.example:00080")
@example("http://0x7F.1/")
def test_a_url_that_is_taken_means_the_same_to_the_client_that_dials(url):
    try:
        found = parse_url(url)
    except ValueError:
        return
    other = URL(url, encoded=True)
    assert (found.scheme, found.host, found.port) == (other.scheme, (other.raw_host or "").lower(), other.port)


@pytest.mark.parametrize("address", REFUSED)
async def test_public_refuses_the_addresses_of_the_table(address):
    assert "webhooks are not sent to" in await refused(destinations("public"), f"http://{bracketed(address)}/hook")


@pytest.mark.parametrize("host", SPELLINGS)
async def test_public_refuses_loopback_however_it_is_spelt(host):
    with pytest.raises(AddressRefused, match="webhooks are not sent to"):
        await destinations("public").places(as_spelt(host))


@pytest.mark.parametrize("host", ["2130706433", "0177.0.0.1", "127.1", "0", "1.2.3.4.5", "256.1.1.1"])
def test_numbers_that_are_no_plain_address_are_no_host(host):
    with pytest.raises(ValueError, match="an IPv4 address is four numbers"):
        parse_url(f"http://{host}/")


@pytest.mark.parametrize("address", NEVER_LOCAL)
async def test_lan_refuses_link_local_multicast_and_unspecified_addresses(address):
    assert await refused(destinations(), f"http://{bracketed(address)}/")


@pytest.mark.parametrize("address", [*LOCAL, *PUBLIC])
async def test_lan_lets_private_and_loopback_and_public_addresses_pass(address):
    (found,) = await destinations().places(parse_url(f"http://{bracketed(address)}:9000/"))
    assert (found.ip, found.sockaddr[1]) in {(ip_address(address), 9000), (IPv4Address("8.8.8.8"), 9000)}


@pytest.mark.parametrize("host", ["localhost", *(set(SPELLINGS) - {"0"})])
async def test_lan_lets_loopback_pass_however_it_is_spelt(host):
    found = await destinations().places(as_spelt(host))
    assert all(item.ip.is_loopback for item in found)


@pytest.mark.parametrize("address", PUBLIC)
async def test_public_lets_public_addresses_pass(address):
    assert await destinations("public").places(parse_url(f"https://{bracketed(address)}/"))


async def test_a_refusal_names_the_host_and_the_reason():
    names = Names(evil_example="169.254.169.254")
    assert await refused(destinations(names=names), "http://evil.example/") == (
        f"webhooks are not sent to evil.example: 169.254.169.254 is a link-local address; {REMEDY}"
    )
    assert await refused(destinations(), "http://169.254.169.254/latest") == (
        f"webhooks are not sent to 169.254.169.254: it is a link-local address; {REMEDY}"
    )


async def test_only_a_refusal_by_the_networks_speaks_of_them():
    found = destinations()
    found.listening = (("127.0.0.1", 8080),)
    for port in (8080, 11434):
        assert REMEDY not in await refused(found, f"http://127.0.0.1:{port}/")


@pytest.mark.parametrize("answer", ["93.184.216.34 10.0.0.7", "10.0.0.7 93.184.216.34", "2606:4700::1 ::1"])
async def test_one_bad_address_among_good_ones_refuses_all(answer):
    assert await refused(destinations("public", Names(mixed_example=answer)), "https://mixed.example/")


async def test_a_name_that_leads_to_loopback_is_refused():
    names = Names(alias_example="127.0.0.1")
    assert "127.0.0.1 is a loopback address" in await refused(destinations("public", names), "http://alias.example/")


async def test_a_name_is_judged_anew_each_time():
    names = Names(turning_example="93.184.216.34")
    found = destinations("public", names)
    (first,) = await found.places(parse_url("http://turning.example/"))
    assert first == Place(socket.AF_INET, ("93.184.216.34", 80))
    names.answers["turning.example"] = ["127.0.0.1"]
    assert await refused(found, "http://turning.example/")


async def test_every_address_is_given_once_and_as_it_is_dialled():
    names = Names(two_example="93.184.216.34 2606:4700::1 93.184.216.34")
    found = await destinations("public", names).places(parse_url("https://two.example/"))
    assert [item.address for item in found] == ["93.184.216.34:443", "[2606:4700::1]:443"]
    assert [item.family for item in found] == [socket.AF_INET, socket.AF_INET6]


@pytest.mark.parametrize("answer", [{}, {"nobody_example": ""}])
async def test_a_name_without_an_address_is_the_resolvers_error(answer):
    with pytest.raises(socket.gaierror):
        await destinations(names=Names(**answer)).places(parse_url("http://nobody.example/"))


@pytest.mark.parametrize("networks", EVERYWHERE)
@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "[::1]", "[::ffff:127.0.0.1]", "localhost", "0x7f000001"])
async def test_foremans_own_port_is_refused_on_each_of_its_addresses(networks, host):
    found = destinations(networks)
    found.listening = (("::", 8080), ("0.0.0.0", 8080))
    assert "foreman itself, which listens on port 8080" in await refused(found, f"http://{host}:8080/jobs")
    assert await found.places(parse_url(f"http://{host}:8081/"))


@pytest.mark.parametrize("host", ["0.0.0.0", "[::]"])
async def test_foremans_own_port_is_refused_on_the_unspecified_address_where_that_is_opened(host):
    found = destinations("0.0.0.0/0,::/0")
    found.listening = (("::", 8080),)
    assert "foreman itself" in await refused(found, f"http://{host}:8080/")


async def test_foremans_own_port_on_another_machine_is_not_foreman():
    found = destinations(names=Names(other_example="93.184.216.34"))
    found.listening = (("0.0.0.0", 8080),)
    assert await found.places(parse_url("http://other.example:8080/"))


@pytest.mark.parametrize("networks", EVERYWHERE)
@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "[::1]", "localhost"])
async def test_the_port_of_a_target_on_this_machine_is_refused_on_each_of_its_addresses(networks, host):
    found = destinations(networks)
    assert "the Ollama server, which listens on port 11434" in await refused(found, f"http://{host}:11434/api/pull")
    assert await found.places(parse_url(f"http://{host}:11435/"))


@pytest.mark.parametrize("networks", EVERYWHERE)
async def test_the_port_of_a_target_elsewhere_is_refused_on_its_addresses_alone(networks):
    names = Names(gpu_example="10.0.0.5 fd00::5", alias_example="fd00::5", other_example="10.0.0.6")
    found = destinations(networks, names, target="https://gpu.example/ollama")
    assert "fd00::5 is the Ollama server" in await refused(found, "https://alias.example/")
    assert await found.places(parse_url("https://other.example/"))
    assert await found.places(parse_url("http://alias.example/"))


async def test_a_target_address_that_cannot_be_dialled_keeps_no_webhook_back():
    names = Names(gpu_example="fe80::1 10.0.0.5", other_example="10.0.0.6")
    found = destinations(names=names, target="http://gpu.example:11434")
    assert await found.places(parse_url("http://other.example:11434/"))


async def test_the_target_is_looked_up_only_when_the_port_is_its():
    names = Names(gpu_example="10.0.0.5", other_example="10.0.0.6")
    found = destinations(names=names, target="http://gpu.example:11434")
    await found.places(parse_url("http://other.example:9000/"))
    assert names.asked == ["other.example"]
    await found.places(parse_url("http://other.example:11434/"))
    assert names.asked == ["other.example", "other.example", "gpu.example"]


async def test_a_target_that_no_longer_resolves_is_still_refused_where_it_was():
    names = Names(gpu_example="10.0.0.5", alias_example="10.0.0.5", other_example="10.0.0.6")
    found = destinations(names=names, target="http://gpu.example:11434")
    assert await refused(found, "http://alias.example:11434/")
    del names.answers["gpu.example"]
    assert await refused(found, "http://alias.example:11434/")
    assert await found.places(parse_url("http://other.example:11434/"))


async def test_a_target_whose_look_up_hangs_keeps_no_webhook_back():
    held, names = Held("10.0.0.5"), Names(other_example="10.0.0.6")
    found = destinations(names=lambda host, port: (names if host in names.answers else held)(host, port),
                         target="http://gpu.example:11434")  # fmt: skip
    async with asyncio.timeout(PATIENCE_S):
        assert await found.places(parse_url("http://other.example:11434/"))
    assert held.asked == 1
    held.hang.release.set()


async def test_an_address_is_resolved_without_a_thread():
    looks = [asyncio.create_task(resolve(host, 80)) for host in ("127.0.0.1", "::1", "0x7f000001")]
    await asyncio.sleep(0)
    assert all(look.done() for look in looks)  # what comes from a thread takes another turn of the loop


async def test_a_look_up_that_hangs_is_let_go_of_at_once():
    hang, faults = Hang(), []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context))
    look = asyncio.create_task(in_a_thread_of_its_own(hang))
    await asyncio.to_thread(hang.reached.wait, PATIENCE_S)
    look.cancel()
    with pytest.raises(asyncio.CancelledError):
        await look
    assert hang.thread.is_alive()
    hang.release.set()
    await asyncio.to_thread(hang.thread.join, PATIENCE_S)
    assert faults == []


async def test_a_name_that_no_name_can_be_is_a_resolvers_error_like_any_other():
    with pytest.raises(socket.gaierror):
        await resolve("a..b", 80)


async def test_what_a_look_up_raises_is_raised_where_it_is_awaited():
    def fail() -> None:
        raise socket.gaierror(socket.EAI_AGAIN, "later")

    with pytest.raises(socket.gaierror, match="later"):
        await in_a_thread_of_its_own(fail)


def test_what_arrives_after_the_loop_has_ended_is_dropped():
    hang = Hang()

    async def leave() -> None:
        look = asyncio.create_task(in_a_thread_of_its_own(hang))
        await asyncio.to_thread(hang.reached.wait, PATIENCE_S)
        look.cancel()

    asyncio.run(leave())
    hang.release.set()
    hang.thread.join(PATIENCE_S)  # an exception in it would fail this test
    assert not hang.thread.is_alive()


def test_a_look_up_that_hangs_does_not_hold_up_the_end_of_the_process():
    program = """
import asyncio, threading
from foreman.destinations.lookup import in_a_thread_of_its_own
async def main():
    hanging = threading.Event()
    look = asyncio.create_task(in_a_thread_of_its_own(lambda: (hanging.set(), threading.Event().wait())))
    await asyncio.to_thread(hanging.wait)
    print("hangs")
asyncio.run(main())
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=PATIENCE_S, check=True)
    assert (ended.stdout, ended.stderr) == (b"hangs\n", b"")


async def test_looking_over_refuses_what_an_attempt_would():
    with pytest.raises(AddressRefused, match="it is a link-local address"):
        await destinations().look_over(parse_url("http://169.254.169.254/"))
    await destinations().look_over(parse_url("http://127.0.0.1:9000/"))


async def test_looking_over_lets_pass_what_does_not_resolve():
    names = Names()
    await destinations(names=names).look_over(parse_url("http://nobody.example/"))
    assert names.asked == ["nobody.example"]


async def test_looking_over_lets_pass_what_takes_too_long_and_only_the_first_waits():
    held = Held("169.254.169.254")
    clock = HandClock()
    found = destinations(names=held, clock=clock)
    url = parse_url("http://slow.example/")
    async with asyncio.timeout(PATIENCE_S):
        await found.look_over(url)
    clock.at += 1_000_000
    later = asyncio.create_task(found.look_over(url))
    for _ in range(10):
        await asyncio.sleep(0)
    assert later.done()
    assert held.asked == 1
    held.hang.release.set()


async def test_looking_over_is_in_time_for_an_answer_within_the_second():
    held = Held("169.254.169.254")
    found = destinations(names=held)
    look = asyncio.create_task(found.look_over(parse_url("http://slow.example/")))
    while not held.asked:
        await asyncio.sleep(0)
    held.hang.release.set()
    with pytest.raises(AddressRefused):
        await look


async def test_a_submission_that_is_cancelled_lets_the_others_have_their_answer():
    held = Held("169.254.169.254")
    found = destinations(names=held)
    one, other = (asyncio.create_task(found.look_over(parse_url("http://slow.example/"))) for _ in range(2))
    while not held.asked:
        await asyncio.sleep(0)
    one.cancel()
    with pytest.raises(asyncio.CancelledError):
        await one
    held.hang.release.set()
    with pytest.raises(AddressRefused):
        await other
    assert held.asked == 1


async def test_many_submissions_to_one_receiver_cost_one_look_up():
    names = Names(evil_example="169.254.169.254")
    found = destinations(names=names)
    looks = [found.look_over(parse_url(f"http://evil.example/{number}")) for number in range(1_000)]
    outcomes = await asyncio.gather(*looks, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {AddressRefused}
    assert names.asked == ["evil.example"]


async def test_a_look_is_remembered_for_some_seconds_and_then_taken_anew():
    names, clock = Names(turning_example="93.184.216.34"), HandClock()
    found = destinations("public", names, clock=clock)
    url = parse_url("http://turning.example/")
    await found.look_over(url)
    names.answers["turning.example"] = ["127.0.0.1"]
    clock.at += int(LOOK_HOLDS_S * 1e6) - 1
    await found.look_over(url)
    assert len(names.asked) == 1
    clock.at += 1
    with pytest.raises(AddressRefused):
        await found.look_over(url)
    assert len(names.asked) == 2


async def test_made_up_names_take_neither_threads_nor_memory_without_bound():
    held = Held("169.254.169.254")
    found = destinations(names=held)
    looks = [found.look_over(parse_url(f"http://n{number}.example/")) for number in range(2 * MOST_LOOKS_AT_ONCE)]
    waiting = asyncio.gather(*looks, return_exceptions=True)
    while held.asked < MOST_LOOKS_AT_ONCE:
        await asyncio.sleep(0)
    held.hang.release.set()
    outcomes = [type(outcome) for outcome in await waiting]
    assert held.asked == MOST_LOOKS_AT_ONCE
    assert outcomes == [AddressRefused] * MOST_LOOKS_AT_ONCE + [type(None)] * MOST_LOOKS_AT_ONCE


async def test_a_look_that_was_pushed_out_is_taken_anew():
    names = Names(first_example="93.184.216.34")
    found = destinations(names=names)
    await found.look_over(parse_url("http://first.example/"))
    for number in range(1_000):
        await found.look_over(parse_url(f"http://n{number}.example/"))
    await found.look_over(parse_url("http://n999.example/"))
    await found.look_over(parse_url("http://first.example/"))
    assert (names.asked.count("n999.example"), names.asked.count("first.example")) == (1, 2)
