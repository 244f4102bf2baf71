"""Answer a file of prompts overnight: `night_batch.py MODEL FILE`, one prompt a line. Started again, it goes on.

The file's digest is the idempotency key: the same file makes the same jobs, however often this is started.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from foreman.client import Client, Job, NoAnswer


def jobs(model: str, path: Path) -> Iterator[dict[str, Any]]:
    """A job for each line that says something."""
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            if prompt := line.strip():
                yield {"model": model, "prompt": prompt}


def main(model: str, path: Path) -> None:
    """Submit all, then print the answers in the order of the file, as JSON lines."""
    key = hashlib.sha256(path.read_bytes()).hexdigest()
    with Client() as client:
        submitted: list[Job] = list(client.submit_many(jobs(model, path), idempotency_key=key))
        print(f"{len(submitted)} jobs are queued; the last one: {submitted[-1].job_id}", file=sys.stderr)
        for job in submitted:
            try:
                answer = client.completion(job.job_id).text
            except NoAnswer as error:
                print(json.dumps({"job_id": job.job_id, "error": str(error), "code": error.code}))
            else:
                print(json.dumps({"job_id": job.job_id, "answer": answer}))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
