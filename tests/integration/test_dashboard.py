"""The dashboard's files: what is served, how, to whom, and what may not be in them. `tests/browser` has the rest."""

from __future__ import annotations

import asyncio
import hashlib
import re
import subprocess
import sys
import zipfile
from importlib.resources import files
from pathlib import Path

import pytest

from foreman.api.dashboard.files import HEADERS, assets
from tests.fakes.ollama import FakeOllama
from tests.kit import Running, running

ROOT = Path(__file__).resolve().parents[2]
STATIC = ROOT / "foreman" / "api" / "dashboard" / "static"
FILES = sorted(path for path in STATIC.rglob("*") if path.is_file())
OURS = [path for path in FILES if "vendor" not in path.parts]
SCRIPTS = [path for path in OURS if path.suffix == ".js"]
VENDORED = sorted(STATIC.glob("vendor/*/README.md"))
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".md": "text/plain; charset=utf-8",
    "": "text/plain; charset=utf-8",
}
MOST_LINES = 300


def name(path: Path) -> str:
    return path.relative_to(STATIC).as_posix()


async def test_every_file_is_served_as_what_it_is_without_a_token(tmp_path):
    async with FakeOllama() as fake, running(tmp_path, fake.url, token="s3cret") as foreman:
        for path in FILES:
            answer = await foreman.client.get(f"/dashboard/{name(path)}")
            assert (answer.status_code, answer.content) == (200, path.read_bytes()), path
            assert answer.headers["content-type"] == TYPES[path.suffix], path
            assert HEADERS.items() <= dict(answer.headers).items()
        # The data behind them is not.
        for path in ("/jobs", "/queue", "/events", "/dashboard-x", "/dashboardx/app.js"):
            assert (await foreman.client.get(path)).status_code == 401, path


@pytest.mark.parametrize("path", ["/dashboard", "/dashboard/"])
async def test_the_page_is_there_with_and_without_a_slash(tmp_path, path):
    async with FakeOllama() as fake, running(tmp_path, fake.url) as foreman:
        answer = await foreman.client.get(path)
        assert (answer.status_code, answer.content) == (200, (STATIC / "index.html").read_bytes())


async def test_the_policy_lets_nothing_run_but_the_page_s_own_files(tmp_path):
    async with FakeOllama() as fake, running(tmp_path, fake.url) as foreman:
        answer = await foreman.client.get("/dashboard")
    policy = dict(part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == policy["img-src"] == "'self'"
    assert policy["require-trusted-types-for"] == "'script'"
    assert (
        policy["trusted-types"] == policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'"
    )
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"


@pytest.mark.parametrize("coding", ["gzip", "identity", "gzip;q=0, br", ""])
async def test_a_file_that_is_known_is_not_sent_again(tmp_path, coding):
    headers = {"accept-encoding": coding}
    async with FakeOllama() as fake, running(tmp_path, fake.url) as foreman:
        first = await foreman.client.get("/dashboard/app.js", headers=headers)
        assert first.headers.get("content-encoding") == ("gzip" if coding == "gzip" else None)
        assert first.headers["vary"] == "Accept-Encoding"
        assert first.headers["cache-control"] == "no-cache"
        for tag in (first.headers["etag"], f"W/{first.headers['etag']}", f'"other", {first.headers["etag"]}', "*"):
            again = await foreman.client.get("/dashboard/app.js", headers={**headers, "if-none-match": tag})
            assert (again.status_code, again.content) == (304, b"")
            assert again.headers["etag"] == first.headers["etag"]
        other = await foreman.client.get("/dashboard/app.js", headers={**headers, "if-none-match": '"other"'})
        assert (other.status_code, other.content) == (200, first.content)


async def test_the_two_codings_of_a_file_do_not_share_a_tag(tmp_path):
    async with FakeOllama() as fake, running(tmp_path, fake.url) as foreman:
        plain = await foreman.client.get("/dashboard/app.js", headers={"accept-encoding": "identity"})
        wanted = {"accept-encoding": "gzip", "if-none-match": plain.headers["etag"]}
        assert (await foreman.client.get("/dashboard/app.js", headers=wanted)).status_code == 200


@pytest.mark.parametrize("path", ["/dashboard", "/dashboard/app.css"])
async def test_head_has_the_headers_and_no_body(tmp_path, path):
    async with FakeOllama() as fake, running(tmp_path, fake.url) as foreman:
        head, get = await foreman.client.head(path), await foreman.client.get(path)
    assert (head.status_code, head.content) == (200, b"")
    assert {**head.headers, "date": ""} == {**get.headers, "date": ""}


async def status_of(foreman: Running, path: str) -> int:
    """What a path is answered with exactly as it stands: a client would resolve its dots."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(foreman.url.rpartition(":")[2]))
    writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    line = await reader.readline()
    writer.close()
    await writer.wait_closed()
    return int(line.split()[1])


@pytest.mark.parametrize(
    "path",
    ["nope.js", "views", "views/", "app.js/", "static/app.js", "__init__.py", "../files.py", "%2e%2e/files.py",
     "..%2ffiles.py", "views/../app.js", "/app.js", "/etc/passwd", "../jobs", "../../jobs", "%2e%2e/jobs", "..%2fjobs",
     ".%2e/jobs", "..;/jobs", "..\\jobs"],
)  # fmt: skip
async def test_a_path_that_is_no_file_s_leads_nowhere_and_past_no_token(tmp_path, path):
    async with FakeOllama() as fake, running(tmp_path, fake.url, token="s3cret") as foreman:
        assert await status_of(foreman, f"/dashboard/{path}") == 404


async def test_an_unknown_file_is_told_of_as_every_error_is(tmp_path):
    async with FakeOllama() as fake, running(tmp_path, fake.url) as foreman:
        answer = await foreman.client.get("/dashboard/nope.js")
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


async def test_the_page_is_only_read(tmp_path):
    async with FakeOllama() as fake, running(tmp_path, fake.url) as foreman:
        answer = await foreman.client.post("/dashboard")
        assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")


async def test_the_page_may_steer_through_a_proxy_that_changes_the_host(tmp_path):
    public = "https://foreman.example.net:8443"
    async with FakeOllama(["a"]) as fake, running(tmp_path, fake.url, public_url=f"{public}/") as foreman:
        job_id = await foreman.submit()
        await foreman.until_finished(job_id)
        own, other = {"origin": public}, {"origin": "https://foreman.example.net"}
        assert (await foreman.client.delete(f"/jobs/{job_id}", headers=other)).status_code == 403
        assert (await foreman.client.delete(f"/jobs/{job_id}", headers=own)).status_code == 200


async def test_a_job_s_request_can_be_read_back_and_holds_no_secret(tmp_path):
    async with FakeOllama(["a"]) as fake, running(tmp_path, fake.url) as foreman:
        webhook = {
            "state_webhook_url": "http://127.0.0.1:9/",
            "webhook_secret": "whsec_c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0",
        }
        job_id = await foreman.submit("a", "what was asked", **webhook)
        answer = await foreman.client.get(f"/jobs/{job_id}/artifacts/request")
        assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
        assert answer.json() == {"model": "a", "messages": [{"role": "user", "content": "what was asked"}]}
        listed = (await foreman.client.get(f"/jobs/{job_id}/artifacts")).json()["artifacts"]
        assert "request" not in [artifact["name"] for artifact in listed]


@pytest.mark.parametrize("path", OURS, ids=name)
def test_a_file_of_ours_names_no_other_host(path):
    # The one URL is the name of SVG's elements, which nobody asks for.
    text = path.read_text("utf-8").replace('xmlns="http://www.w3.org/2000/svg"', "")
    # An example of a receiver on the reader's own machine.
    text = text.replace("http://127.0.0.1:9000/", "")
    assert re.findall(r"(?:https?:|wss?:|[\"'(=]\s*)//[\w.]+", text) == []


@pytest.mark.parametrize("path", [path for path in FILES if path.suffix in {".html", ".css"}], ids=name)
def test_what_loads_other_files_loads_the_page_s_own(path):
    text = path.read_text("utf-8")
    loaded = re.findall(r"""(?:src|href)="([^"]*)"|url\(([^)]*)\)|@import\s+(\S+)""", text)
    names = ["".join(found) for found in loaded]
    assert [each for each in names if not each.startswith("/dashboard/")] == []
    assert [each for each in names if each.removeprefix("/dashboard/") not in assets()] == []


@pytest.mark.parametrize("path", SCRIPTS, ids=name)
def test_a_script_makes_no_markup_of_text(path):
    forbidden = (
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function|srcdoc|DOMParser|javascript:"
    )
    assert re.findall(forbidden, path.read_text("utf-8")) == []


@pytest.mark.parametrize("path", SCRIPTS, ids=name)
def test_a_script_imports_files_that_there_are_and_says_what_it_is_for(path):
    text = path.read_text("utf-8")
    imported = re.findall(r"""(?:from|import)\s+"([^"]+)";""", text)
    assert [each for each in imported if not (path.parent / each).resolve().is_relative_to(STATIC)] == []
    assert [each for each in imported if not (path.parent / each).is_file()] == []
    assert text.startswith(("/**", "//"))
    assert len(text.splitlines()) <= MOST_LINES


def test_every_script_is_used():
    imported = {
        (path.parent / each).resolve()
        for path in SCRIPTS
        for each in re.findall(r"""(?:from|import)\s+"([^"]+)";""", path.read_text("utf-8"))
    }
    page = (STATIC / "index.html").read_text("utf-8")
    started = {STATIC / each for each in re.findall(r'src="/dashboard/([^"]+)"', page)}
    assert set(SCRIPTS) <= imported | started


@pytest.mark.parametrize("readme", VENDORED, ids=lambda path: path.parent.name)
def test_a_library_is_the_one_that_its_readme_tells_of(readme):
    text = readme.read_text("utf-8")
    told = dict(re.findall(r"\| `([^`]+)` \| `([0-9a-f]{64})` \|", text))
    found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in readme.parent.iterdir()}
    del found["README.md"]
    assert told == found
    assert "LICENSE" in told
    assert text.split()[2] == readme.parent.name.rpartition("-")[2]


def test_the_files_are_read_from_the_package_and_all_of_them():
    assert set(assets()) == {name(path) for path in FILES}
    assert (files("foreman.api.dashboard") / "static" / "index.html").is_file()


def test_the_files_are_in_the_wheel(tmp_path):
    for part in ("pyproject.toml", "README.md", "LICENSE"):
        (tmp_path / part).write_bytes((ROOT / part).read_bytes())
    for path in [ROOT / "foreman" / "__init__.py", ROOT / "foreman" / "api" / "dashboard" / "__init__.py", *FILES]:
        copied = tmp_path / path.relative_to(ROOT)
        copied.parent.mkdir(parents=True, exist_ok=True)
        copied.write_bytes(path.read_bytes())
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path / "dist")]
    done = subprocess.run([*build, str(tmp_path)], check=False, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    inside = zipfile.ZipFile(wheel).namelist()
    assert [name(path) for path in FILES if f"foreman/api/dashboard/static/{name(path)}" not in inside] == []
