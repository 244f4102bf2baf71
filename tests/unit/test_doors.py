"""Origins and hosts as Ollama judges them by default; the routes themselves are tested over HTTP."""

from __future__ import annotations

import pytest

from foreman.api.doors import is_allowed_origin, is_local_host


@pytest.mark.parametrize(
    "origin",
    ["http://localhost", "https://localhost:3000", "http://127.0.0.1:8080", "http://0.0.0.0", "app://obsidian.md",
     "tauri://localhost", "vscode-webview://abc"],
)  # fmt: skip
def test_page_of_this_machine_or_of_an_app_may_read(origin):
    assert is_allowed_origin(origin)


@pytest.mark.parametrize(
    "origin",
    ["http://evil.example", "https://localhost.evil.example", "http://evil.example#localhost", "null", "localhost", "",
     "ftp://localhost", "http://", "http://127.0.0.1.evil.example", "http://localhost@evil.example"],
)  # fmt: skip
def test_page_from_elsewhere_may_not(origin):
    assert not is_allowed_origin(origin)


@pytest.mark.parametrize(
    "host",
    ["", "localhost", "localhost:8080", "127.0.0.1:1", "[::1]:8080", "192.168.1.5", "10.0.0.1:80", "gpu.local",
     "box.internal:9", "a.localhost"],
)  # fmt: skip
def test_host_of_this_machine_or_its_network_is_local(host):
    assert is_local_host(host)


@pytest.mark.parametrize("host", ["evil.example", "8.8.8.8", "localhost.evil.example", "[2001:4860::8888]", "local"])
def test_host_from_elsewhere_is_not(host):
    assert not is_local_host(host)
