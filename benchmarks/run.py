"""`make bench`: every figure that foreman is to reach, each beside a direct call or an ideal of the same run.

Prints what it measures and judges nothing: figures of a shared machine are no test.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import audit, backlog, calls, dead_receivers, eta, replay, scrape, webhooks
from benchmarks.harness import Figure


async def measure(wanted: list[str]) -> list[Figure]:
    """All benchmarks, or those named."""
    figures: list[Figure] = []
    for benchmark in (
        *calls.ALL,
        *backlog.ALL,
        *webhooks.ALL,
        *dead_receivers.ALL,
        *scrape.ALL,
        *eta.ALL,
        *audit.ALL,
        *replay.ALL,
    ):
        if wanted and benchmark.__name__ not in wanted:
            continue
        print(f"measuring {benchmark.__name__} …", file=sys.stderr, flush=True)
        figures += await benchmark()
    return figures


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="benchmarks to run; all if none is given")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    arguments = parser.parse_args()
    figures = asyncio.run(measure(arguments.names))
    if arguments.json:
        print(json.dumps([asdict(figure) for figure in figures], indent=2))
        return
    table = Table("what", "measured", "beside", "to reach")
    for figure in figures:
        table.add_row(figure.name, f"{figure.value:,.2f} {figure.unit}", figure.beside, figure.target)
    Console().print(table)


if __name__ == "__main__":
    main()
