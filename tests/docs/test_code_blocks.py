"""The examples in README and docs do what they say, run as they stand against a foreman in front of the fake.

A comment before a fenced block says what to do with it: `<!-- run -->` runs it, `<!-- shown -->` means that it cannot
be run here, `<!-- file NAME -->` puts it where the page's session finds it. All `sh` blocks of a page are one session.
A line `# -> TEXT` is what the session must print.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import stat
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from foreman.api.submissions import TOLD
from foreman.durations import duration_s
from foreman.fsm.job import State
from foreman.webhooks.payload import payload
from foreman.webhooks.schedule import BACKOFF_S
from tests.core import QUEUED, job_after
from tests.fakes.ollama import FakeOllama
from tests.kit import running

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
WEBHOOKS = ROOT / "docs" / "how-to" / "receive-webhooks.md"
BLOCK = re.compile(r"(?:^<!-- (run|shown|file [\w.]+) -->\n)?^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ADDRESS = "127.0.0.1:8080"
#: Where the documents' receivers of webhooks listen.
RECEIVER_PORT = "9000"
#: Long enough for the longest page on a slow machine.
PATIENCE_S = 60.0
MODELS = ["llama3.2", "qwen3", "nomic-embed-text"]


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def blocks(path: Path, mark: str, language: str) -> list[str]:
    found = BLOCK.findall(path.read_text("utf-8"))
    return [code for marked, written, code in found if (marked, written) == (mark, language)]


def files(path: Path) -> dict[str, str]:
    """The blocks of a page that its session finds as files."""
    found = BLOCK.findall(path.read_text("utf-8"))
    return {mark.removeprefix("file "): code for mark, _, code in found if mark.startswith("file ")}


def pages_with(language: str) -> list[Path]:
    return [path for path in PAGES if blocks(path, "run", language)]


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_every_example_says_whether_it_is_run(path):
    unmarked = [
        code
        for mark, language, code in BLOCK.findall(path.read_text("utf-8"))
        if language in {"sh", "python"} and not mark
    ]
    assert unmarked == []


@pytest.mark.parametrize("path", pages_with("sh"), ids=name)
async def test_shell_examples_run_as_they_stand(tmp_path, path):
    script = "set -euo pipefail\n" + "\n".join(blocks(path, "run", "sh"))
    printed = await run(tmp_path, ["bash", "-c", script], files(path))
    for expected in re.findall(r"^# -> (.*)$", script, re.MULTILINE):
        assert expected in printed


@pytest.mark.parametrize("path", pages_with("python"), ids=name)
async def test_python_examples_run_as_they_stand(tmp_path, path):
    for code in blocks(path, "run", "python"):
        await run(tmp_path, [sys.executable, "-c", code])


async def run(folder: Path, command: list[str], written: dict[str, str] | None = None) -> str:
    """What the command prints, with foreman where the documents say it is; it must end well."""
    put_curl(folder / "bin")
    environ = {**os.environ, "PATH": f"{folder}/bin:{Path(sys.executable).parent}:{os.environ['PATH']}"}
    async with FakeOllama(models=MODELS) as fake, running(folder, fake.url) as foreman:
        environ["FOREMAN_URL"] = foreman.url  # the commands' default is where the documents say that foreman is
        places = {ADDRESS: foreman.url.removeprefix("http://"), RECEIVER_PORT: free_port()}
        for file, text in (written or {}).items():
            (folder / file).write_text(moved(text, places), "utf-8")
        status, printed = await run_in(folder, [moved(part, places) for part in command], environ)
    assert status == 0, printed
    return printed


def moved(text: str, places: dict[str, str]) -> str:
    """The text with the documents' addresses replaced by those of this test."""
    for written, place in places.items():
        text = text.replace(written, place)
    return text


async def run_in(folder: Path, command: list[str], environ: dict[str, str]) -> tuple[int, str]:
    """The command's status and all that was printed, by what it left running too, which is ended with it."""
    printed = folder / "printed.txt"
    with printed.open("wb") as file:
        process = await asyncio.create_subprocess_exec(
            *command, env=environ, cwd=folder, stdout=file, stderr=asyncio.subprocess.STDOUT, start_new_session=True
        )
    try:
        async with asyncio.timeout(PATIENCE_S):
            status = await process.wait()
    except TimeoutError:
        raise AssertionError(f"it did not end; it printed: {printed.read_text('utf-8')}") from None
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
    return status, printed.read_text("utf-8")


def put_curl(folder: Path) -> None:
    curl = folder / "curl"
    folder.mkdir(exist_ok=True)
    curl.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{ROOT}/tests/docs/curl.py" "$@"\n', "utf-8")
    curl.chmod(curl.stat().st_mode | stat.S_IXUSR)


def free_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return str(found.getsockname()[1])


def link_targets(path: Path) -> list[str]:
    prose = BLOCK.sub("", path.read_text("utf-8"))
    return [target for target in re.findall(r"\]\(([^)\s]+)\)", prose) if not re.match(r"[a-z]+:", target)]


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_every_link_within_the_tree_leads_somewhere(path):
    broken = []
    for target in link_targets(path):
        file, _, anchor = target.partition("#")
        there = (path.parent / file).resolve() if file else path
        if not there.exists() or (anchor and anchor not in anchors(there)):
            broken.append(target)
    assert broken == []


def anchors(path: Path) -> set[str]:
    """The headings of a page as a link names them."""
    headings = re.findall(r"^#+ (.*)$", path.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_page_is_reached_from_the_index():
    start = ROOT / "docs" / "index.md"
    reached, todo = set(), [start]
    while todo:
        path = todo.pop()
        if path in reached or path.suffix != ".md":
            continue
        reached.add(path)
        todo += [(path.parent / target.partition("#")[0]).resolve() for target in link_targets(path)]
    assert [name(path) for path in PAGES if path not in reached and path.name != "README.md"] == []


def test_settings_named_in_the_documents_exist():
    from foreman.config.settings import SETTINGS

    known = {row.variable for row in SETTINGS} | {"FOREMAN_EMBEDDED_GGUF", "FOREMAN_URL"}
    used = {word for path in PAGES for word in re.findall(r"\bFOREMAN_[A-Z_]+\b", path.read_text("utf-8"))}
    assert used - known - not_there_yet() == set()


def not_there_yet() -> set[str]:
    """Settings that decisions speak of before they exist."""
    return {
        word
        for path in (ROOT / "docs" / "adr").glob("*.md")
        for word in re.findall(r"\bFOREMAN_[A-Z_]+\b", path.read_text("utf-8"))
    }


def test_every_code_that_a_job_may_end_with_is_documented():
    folders = ("commands", "worker")
    sources = [path.read_text("utf-8") for folder in folders for path in (ROOT / "foreman" / folder).glob("*.py")]
    codes = {code for source in sources for code in re.findall(r'\bcode="(\w+)"', source)}
    assert codes
    page = (ROOT / "docs" / "reference" / "errors.md").read_text("utf-8")
    assert [code for code in codes if f"| `{code}` |" not in page] == []


def rows(page: Path) -> set[str]:
    """What the first cells of a page's tables name."""
    return set(re.findall(r"^\| `(\w+)` \|", page.read_text("utf-8"), re.MULTILINE))


def test_every_key_of_a_webhook_is_documented():
    job = job_after(QUEUED)
    assert job is not None
    assert set(payload(State.NEW, job, "", {})) <= rows(WEBHOOKS)


def test_every_state_that_is_told_is_documented():
    assert set(TOLD) <= rows(WEBHOOKS)


def test_the_documented_waits_are_those_between_attempts():
    ((written),) = re.findall(r"^\| wait \|(.*)\|$", WEBHOOKS.read_text("utf-8"), re.MULTILINE)
    assert tuple(duration_s(cell.strip()) for cell in written.split("|")) == BACKOFF_S
