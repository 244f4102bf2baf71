"""How fast a log is made into a database again, and what of memory that takes.

python benchmarks/replay.py [--events 1000000] [--kept 10000]
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Self

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.harness import ROOT, Figure
from foreman.clock import Micros
from foreman.commands.rebuild import rebuild
from foreman.events.codec import CODEC, GENESIS, chain_hash
from foreman.events.daemon import ModelSwapped
from foreman.events.history import History, StoredEvent
from foreman.events.types import (
    DAEMON,
    ArtifactRef,
    Endpoint,
    Event,
    JobClass,
    JobDone,
    JobExpired,
    JobLoading,
    JobQueued,
    JobWorking,
    Source,
)
from foreman.storage.still import still

EVENTS = 1_000_000
#: Jobs that wait when the next one starts, jobs between two swaps, and finished jobs that have not expired yet.
WAITING, TURN, KEPT = 50, 20, 10_000
#: More than a rebuild remembers, so that it has to look jobs up when they expire.
KEPT_LONG = 30_000
REQUEST = ArtifactRef(name="request", content_type="application/json", size=120, sha256="0" * 64)
ANSWER = ArtifactRef(name="completion", content_type="application/json", size=900, sha256="1" * 64)


def happenings(kept: int) -> Iterator[tuple[str, int, Event]]:
    """What happens to jobs that come one by one, for ever: stream, version and event of each."""
    daemon = 0
    versions: dict[str, int] = {}

    def of(number: int, event: Event) -> tuple[str, int, Event]:
        job_id = f"01JD{number:022}"
        versions[job_id] = versions.get(job_id, 0) + 1
        return job_id, versions[job_id], event

    number = 0
    while True:
        key, job_class = f"sha256:{number // TURN % 4}", JobClass.BATCH if number % 5 else JobClass.INTERACTIVE
        yield of(number, JobQueued(
            model="llama3.2:3b", load_key=key, endpoint=Endpoint.CHAT, source=Source.ASYNC, job_class=job_class,
            stream=True, request=REQUEST, max_attempts=3,
        ))  # fmt: skip
        if (runs := number - WAITING) >= 0:
            swaps = runs % TURN == 0
            key = f"sha256:{runs // TURN % 4}"
            if swaps:
                daemon += 1
                yield of(runs, JobLoading(attempt=1, evicts="qwen3:8b"))
                yield DAEMON, daemon, ModelSwapped(model="llama3.2:3b", load_key=key, load_s=7.5)
            yield of(runs, JobWorking(attempt=1, waited_s=12.25, swapped=swaps, load_s=7.5 if swaps else None))
            yield of(runs, JobDone(
                attempt=1, artifacts=(ANSWER,), done_reason="stop", prompt_tokens=26, generated_tokens=298,
                total_duration=4_706_818_083, load_duration=6_338_219, prompt_eval_duration=130_079_000,
                eval_duration=4_232_710_000, first_token_s=0.25, run_s=4.75, load_key=key, job_class=JobClass.BATCH,
            ))  # fmt: skip
        if (old := number - WAITING - kept) >= 0:
            yield of(old, JobExpired(removed=("request", "completion")))
            del versions[f"01JD{old:022}"]
        number += 1


def stored(count: int, kept: int = KEPT) -> Iterator[StoredEvent]:
    """A log of so many events, in which so many finished jobs have not expired yet."""
    hash_ = GENESIS
    for position, (stream, version, event) in enumerate(islice(happenings(kept), count), start=1):
        text, at = CODEC.encode(event), Micros(1_700_000_000_000_000 + position * 900_000)
        hash_ = chain_hash(hash_, position, stream, version, event.type, at, text)
        yield StoredEvent(position, stream, version, event.type, at, text, hash_)


@dataclass(frozen=True, slots=True, kw_only=True)
class Took:
    """What one rebuild took: seconds, and of both processes the CPU's seconds and the most memory, MB."""

    wall_s: float
    own_s: float
    own_mb: float
    second_s: float
    second_mb: float

    @classmethod
    def of(cls, original: Path) -> Self:
        """Rebuild this database."""
        with still(original) as file:
            began, began_cpu = time.perf_counter(), time.process_time()
            rebuild(original.with_name("rebuilt.db"), History(file).events())
            wall_s, own_s = time.perf_counter() - began, time.process_time() - began_cpu
        own, second = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
        return cls(
            wall_s=wall_s,
            own_s=own_s,
            own_mb=own.ru_maxrss / 1024,
            second_s=second.ru_utime + second.ru_stime,
            second_mb=second.ru_maxrss / 1024,
        )


def measured(count: int, kept: int = KEPT) -> Took:
    """One rebuild of a log of so many events, in a process of its own: making the log must not count."""
    with tempfile.TemporaryDirectory() as folder:
        original = Path(folder) / "original.db"
        rebuild(original, stored(count, kept))
        command = [sys.executable, "-m", "benchmarks.replay", "--database", original]
        return Took(**json.loads(subprocess.check_output(command, cwd=ROOT, text=True)))


async def rebuilding() -> list[Figure]:
    """A rebuild of a long log, of one a tenth as long, and of one whose jobs are kept for long."""
    took, short, looked_up = measured(EVENTS), measured(EVENTS // 10), measured(EVENTS, KEPT_LONG)
    micros = [seconds / EVENTS * 1e6 for seconds in (took.own_s, took.second_s)]
    return [
        Figure(
            name=f"rebuild of {EVENTS:,} events",
            value=EVENTS / took.wall_s,
            unit="events/s",
            beside=f"CPU {micros[0]:.1f} and {micros[1]:.1f} µs an event in its two processes; "
            f"most memory {took.own_mb:.0f} and {took.second_mb:.0f} MB, "
            f"with a tenth of the events {short.own_mb:.0f} and {short.second_mb:.0f}; "
            f"{EVENTS / looked_up.wall_s:,.0f}/s if {KEPT_LONG:,} finished jobs are kept",
            target=">= 100,000/s, memory flat",
        )
    ]


ALL = (rebuilding,)


def main(arguments: list[str] | None = None) -> int:
    """Print what one rebuild took, as JSON."""
    parser = argparse.ArgumentParser(description="Time one rebuild; prints seconds and megabytes.")
    parser.add_argument("--events", type=int, default=EVENTS)
    parser.add_argument("--kept", type=int, default=KEPT, help="finished jobs that have not expired yet")
    parser.add_argument("--database", type=Path, help="rebuild this one, beside it")
    options = parser.parse_args(arguments)
    took = Took.of(options.database) if options.database else measured(options.events, options.kept)
    print(json.dumps(asdict(took)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
