"""`curl` for the examples in the documents: the options that they use, and nothing else. Fails on an HTTP error."""

from __future__ import annotations

import argparse
import sys

import httpx


def main() -> int:
    """Send one request and print its answer as it comes."""
    parser = argparse.ArgumentParser(prog="curl", allow_abbrev=False)
    parser.add_argument("-s", "--silent", action="store_true")
    parser.add_argument("-N", "--no-buffer", action="store_true")
    parser.add_argument("-X", "--request", dest="method")
    parser.add_argument("-H", "--header", action="append", default=[])
    parser.add_argument("-d", "--data")
    parser.add_argument("--data-binary")
    parser.add_argument("url")
    asked = parser.parse_args()
    body = asked.data if asked.data_binary is None else asked.data_binary
    if body == "@-":
        body = sys.stdin.read()
    # What the real one says of a body when it is told nothing.
    headers = {"content-type": "application/x-www-form-urlencoded"} if body is not None else {}
    headers |= {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in asked.header)}
    url = asked.url if "://" in asked.url else f"http://{asked.url}"
    method = asked.method or ("GET" if body is None else "POST")
    with httpx.stream(method, url, content=body, headers=headers, timeout=20, trust_env=False) as answer:
        for text in answer.iter_text():
            sys.stdout.write(text)
            sys.stdout.flush()
    return 22 if answer.is_error else 0


if __name__ == "__main__":
    sys.exit(main())
