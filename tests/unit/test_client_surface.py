"""What the client library shows: the same names both ways, nothing of the daemon behind them, no secret anywhere."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys

import pytest

import foreman.client
from foreman.client import AsyncClient, Client
from foreman.client.connection import Connection
from foreman.client.core import Core
from foreman.client.operations import Operations
from foreman.errors import ConfigError
from tests.kit import unmeasured

#: What the daemon is made of. (httpx itself brings click and rich where they are installed.)
HEAVY = {"sanic", "aiosqlite", "sqlite3", "transitions", "prometheus_client", "structlog", "pydantic", "aiohttp"}


def methods(kind):
    found = {name: value for name, value in vars(kind).items() if callable(value) and not name.startswith("_")}
    return {name: inspect.signature(value) for name, value in found.items()}


def blocking(signature):
    """The signature of an `AsyncClient`'s method as its `Client` should have it."""
    returned = re.sub(r"^AsyncGenerator\[(.*), None\]$", r"Generator[\1, None, None]", str(signature.return_annotation))
    return signature.replace(return_annotation=returned)


def test_both_clients_have_the_same_methods_with_the_same_signatures():
    one, other = methods(Client), methods(AsyncClient)
    assert {name: str(blocking(signature)) for name, signature in other.items()} == {
        name: str(signature) for name, signature in one.items()
    }
    assert inspect.signature(Client) == inspect.signature(AsyncClient)


def test_every_operation_is_a_method_and_says_what_it_does():
    operations = {name for name in dir(Operations) if not name.startswith("_")}
    assert set(methods(Client)) == operations | {"close"}
    assert all(inspect.getdoc(getattr(kind, name)) for kind in (Client, AsyncClient) for name in methods(kind))
    assert str(inspect.signature(Client.get)) == "(self, job_id: 'str') -> 'Job'"
    assert not [name for name in vars(Core) if not name.startswith("_")]


def test_every_public_name_is_there_and_documented():
    names = foreman.client.__all__
    assert names == sorted(names, key=lambda name: (name.islower(), name))
    classes = [value for name in names if inspect.isclass(value := getattr(foreman.client, name))]
    assert [value.__name__ for value in classes if not value.__doc__] == []


@pytest.mark.parametrize("module", ["foreman.client", "foreman.client.testing"])
def test_importing_the_client_brings_nothing_of_the_daemon(module):
    code = f"import sys, {module}; print(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    command = [sys.executable, "-c", code]
    loaded = subprocess.run(command, check=True, capture_output=True, text=True, env=unmeasured()).stdout.split()
    assert HEAVY & set(loaded) == set()


def test_the_environment_says_where_foreman_is_unless_the_caller_does():
    environ = {"FOREMAN_URL": "https://foreman.example/box ", "FOREMAN_TOKEN": "of-the-environment"}
    assert Connection(None, None, 1, {}).url == "http://127.0.0.1:8080"
    assert Connection(None, None, 1, environ).url == "https://foreman.example/box"
    assert Connection("http://other", None, 1, environ).url == "http://other"
    sent = [
        Connection(None, token, 1, environ).arguments()["headers"].get("authorization") for token in (None, "t", "")
    ]
    assert sent == ["Bearer of-the-environment", "Bearer t", None]


@pytest.mark.parametrize(
    "url",
    [
        "127.0.0.1:8080",
        "ftp://host",
        "http://",
        "http://a:b",
        "localhost:8080",
        "http://[::1",
        "http://a..b",
        "http://xn--",
    ],
)
def test_what_is_no_url_is_refused_with_a_clear_word(url):
    with pytest.raises(ConfigError, match="foreman's URL"):
        Client(url)


@pytest.mark.parametrize("token", ["ge heim", "ge\nheim", "gehéim", "ge\x00heim"])
def test_a_token_that_no_header_can_hold_is_refused_and_not_quoted(token):
    with pytest.raises(ConfigError) as caught:
        Client(token=token)
    assert "heim" not in str(caught.value)


async def test_no_repr_shows_a_secret():
    with Client("http://me:geheim@127.0.0.1:1/box?key=geheim", "geheim") as client:
        assert "geheim" not in repr(client) + repr(vars(client))
        assert repr(client) == "Client('http://127.0.0.1:1/box')"
    async with AsyncClient("http://127.0.0.1:1", "geheim") as client:
        assert "geheim" not in repr(client) + repr(vars(client))


@pytest.mark.parametrize(
    ("url", "trusted"),
    [
        ("http://127.0.0.1:8080", False),
        ("http://[::1]:8080", False),
        ("http://localhost", False),
        ("http://a.localhost", False),
        ("http://foreman.example", True),
        ("http://192.168.1.7", True),
    ],
)
def test_proxies_of_the_environment_are_not_for_loopback(url, trusted):
    assert Connection(url, None, 1, {}).arguments()["trust_env"] is trusted


def test_https_checks_certificates_and_http_loads_none():
    assert Connection("https://foreman.example", None, 1, {}).arguments()["verify"] is True
    context = Connection("http://foreman.example", None, 1, {}).arguments()["verify"]
    assert (context.check_hostname, context.get_ca_certs()) == (True, [])
