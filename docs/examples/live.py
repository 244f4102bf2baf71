"""Submit a prompt and print its answer as it is made: `live.py MODEL PROMPT`."""

from __future__ import annotations

import sys

from foreman.client import Client, NewRun, NoAnswer


def main(model: str, prompt: str) -> int:
    """Print it; the exit status says whether there was an answer."""
    with Client() as client:
        job = client.submit(model=model, prompt=prompt, job_class="interactive")
        if job.place is not None:
            print(f"{job.place.reason}; about {job.place.eta_seconds} s", file=sys.stderr)
        try:
            for item in client.stream(job.job_id):
                if isinstance(item, NewRun):
                    print("\n--- started anew: what came before is void", file=sys.stderr)
                else:
                    print(item.text, end="", flush=True)
        except NoAnswer as error:
            print(f"no answer: {error}", file=sys.stderr)
            return 1
        print()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2]))
