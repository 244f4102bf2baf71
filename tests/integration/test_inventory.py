"""What foreman knows of its target: kept while it is away, recorded when that changes, told by `/healthz`."""

from __future__ import annotations

import socket

import pytest

from foreman.events.daemon import TargetDegraded, TargetRecovered
from foreman.fsm.job import State
from foreman.target.client import PROBES, Target, TargetAddress, host_header_for
from tests.fakes.ollama import FakeOllama
from tests.kit import running


async def health(foreman):
    answer = await foreman.client.get("/healthz")
    assert answer.status_code == 200
    return answer.json()


async def look(foreman) -> None:
    """One more poll, from now on; one that is under way does not count."""
    foreman.foreman.inventory.poll_soon()
    await foreman.foreman.inventory.catch_up(5)


def changes(events) -> list[type]:
    return [type(item.event) for item in events if isinstance(item.event, TargetDegraded | TargetRecovered)]


async def test_absence_and_return_are_recorded_once_each(tmp_path):
    async with FakeOllama(["a"]) as fake, running(tmp_path, fake.url) as foreman:
        inventory = foreman.foreman.inventory
        await foreman.until(lambda: inventory.up)
        await fake.go_away()
        await look(foreman)
        for _ in range(3):
            await inventory.refresh()
        await fake.come_back()
        for _ in range(3):
            await inventory.refresh()
        events = await foreman.events("daemon")
        assert changes(events) == [TargetRecovered, TargetDegraded, TargetRecovered]
        assert "Connect call failed" in events[-2].event.error
        assert (events[-1].event.version, events[-1].event.away_s > 0) == (fake.behaviour.version, True)


async def test_health_says_since_when_the_target_is_away(tmp_path):
    async with FakeOllama(["a"]) as fake, running(tmp_path, fake.url) as foreman:
        await foreman.until(lambda: foreman.foreman.inventory.up)
        before = await health(foreman)
        assert (before["status"], before["degraded"], before["degraded_since"]) == ("ok", False, None)
        await fake.go_away()
        await look(foreman)
        during = await health(foreman)
        assert (during["status"], during["degraded"], during["target"]["reachable"]) == ("ok", True, False)
        assert during["degraded_since"] > during["target"]["last_success"] == before["target"]["last_success"]
        await fake.come_back()
        await foreman.until(lambda: foreman.foreman.inventory.up)
        after = await health(foreman)
        assert (after["degraded"], after["target"]["error"]) == (False, None)
        assert after["target"]["last_success"] > during["degraded_since"]


async def test_absence_is_noticed_by_whoever_calls_and_the_return_soon_after(tmp_path):
    async with FakeOllama(["a"]) as fake, running(tmp_path, fake.url, poll_interval="1h") as foreman:
        await foreman.until(lambda: foreman.foreman.inventory.up)
        await fake.go_away()
        assert (await foreman.client.post("/api/embed", json={"model": "a", "input": "x"})).status_code == 503
        assert not foreman.foreman.inventory.up
        await fake.come_back()
        await foreman.until(lambda: foreman.foreman.inventory.up, within_s=8)


async def test_lists_stay_while_the_target_is_away(tmp_path):
    async with FakeOllama(["a", "b"]) as fake, running(tmp_path, fake.url) as foreman:
        tags = (await foreman.client.get("/api/tags")).content
        await fake.go_away()
        await look(foreman)
        assert (await foreman.client.get("/api/tags")).content == tags
        assert b'"a:latest"' in tags


@pytest.mark.parametrize("path", ["/api/tags", "/api/ps", "/api/version"])
@pytest.mark.parametrize("kind", ["reset", "status"])
async def test_target_that_answers_only_half_is_degraded(tmp_path, path, kind):
    async with FakeOllama(["a"]) as fake, running(tmp_path, fake.url) as foreman:
        await foreman.until(lambda: foreman.foreman.inventory.up)
        fake.inject(kind, on=path, times=None)
        await look(foreman)
        assert (await health(foreman))["degraded"]
        job_id = await foreman.submit("a")
        fake.release()
        await foreman.until_state(job_id, State.DONE)


async def test_nobody_listening_at_the_start_is_no_obstacle(tmp_path):
    async with FakeOllama(["a"]) as fake:
        await fake.go_away()
        async with running(tmp_path, fake.url) as foreman:
            await foreman.until(lambda: foreman.foreman.inventory.health.up is False)
            answer = await foreman.client.post("/jobs", json={"model": "a", "prompt": "x"})
            assert (answer.status_code, answer.json()["code"]) == (503, "target_unreachable")
            await fake.come_back()
            await foreman.until(lambda: foreman.foreman.inventory.up)
            await foreman.until_state(await foreman.submit("a"), State.DONE)


@pytest.mark.parametrize(
    ("url", "header"),
    [
        ("http://gpu:11434", "localhost:11434"),
        ("http://gpu", "localhost:80"),
        ("http://192.168.1.7:11434", "localhost:11434"),
        ("http://[fd00::7]:11434", "localhost:11434"),
        ("http://box.local:11434", "localhost:11434"),
        ("http://ollama.example.com", "ollama.example.com"),
        ("https://gpu:11434", "gpu:11434"),
    ],
)
async def test_host_header_suits_an_ollama_bound_to_loopback(url, header):
    assert host_header_for(url) == header


async def test_host_header_that_was_set_is_sent(tmp_path):
    async with FakeOllama(["a"], check_host=False) as fake:
        async with running(tmp_path, fake.url, ollama_host_header="ollama.example") as foreman:
            await foreman.until_state(await foreman.submit("a"), State.DONE)
        assert {call.header("host") for call in fake.calls} == {"ollama.example"}


async def test_connection_asks_for_signs_of_life():
    async with FakeOllama(["a"]) as fake:
        target = Target(TargetAddress(url=fake.url))
        body = b'{"model":"a","messages":[{"role":"user","content":"one two"}]}'
        with fake.hold("a", after=1):
            async with target.generate("/api/chat", body, {}) as reply:
                transport = reply._response.stream._aiohttp_response.connection.transport
                sock: socket.socket = transport.get_extra_info("socket")
                known = {getattr(socket, name): value for name, value in PROBES.items() if hasattr(socket, name)}
                assert len(known) >= 3
                assert {name: sock.getsockopt(socket.IPPROTO_TCP, name) for name in known} == known
                assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        await target.close()
