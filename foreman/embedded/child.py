"""A runner: the program of the process that holds one loaded model. Owns llama.cpp's own HTTP server.

It is run by path, so it must import nothing of foreman. It reads one line of JSON from stdin (what to load), writes one
line of JSON to stdout (where and with which key the model is served), and ends when its stdin closes, that is when its
parent ends in whatever way. A process of its own because loading holds the GIL for its whole length, unloading in place
leaks some 50 MB, and a native abort must not take the server along.
"""

from __future__ import annotations

import json
import os
import resource
import secrets
import sys
from typing import Any


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def parameters(order: dict[str, Any], key: str) -> Any:
    """llama.cpp's parameters for one model with one slot."""
    import xllamacpp  # noqa: PLC0415  (heavy and optional: only a runner loads it)

    params = xllamacpp.CommonParams()
    params.model.path = order["gguf"]
    params.n_ctx = order["num_ctx"]
    params.n_batch = order["num_batch"]
    # Half of the cores: the rest is for the programs that use the answers.
    threads = order["num_thread"] or max(1, cores() // 2)
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    params.ctx_shift = True  # as Ollama starts it: an answer may outgrow the context
    params.warmup = False
    params.n_parallel = 1
    params.cache_ram_mib = 0
    params.ui = False
    params.endpoint_slots = False
    params.verbosity = -1
    # Its port answers every program on this machine with CORS `*`; the key keeps all but our own server out.
    params.api_keys = [key]
    if order["embedding"]:
        params.embedding = True
        # An input must fit into one batch to be pooled.
        params.n_batch = params.n_ubatch = max(order["num_batch"], order["num_ctx"])
    return params


def main() -> None:
    """Load what stdin says, tell where it is served, and stay until stdin closes."""
    order = json.loads(sys.stdin.readline())
    # llama.cpp prints to stdout too: keep the real one for our line and send its words to stderr.
    parent = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    key = secrets.token_urlsafe(32)
    try:
        import xllamacpp  # noqa: PLC0415

        server = xllamacpp.Server(parameters(order, key))
    except Exception as error:  # noqa: BLE001  (the edge of the process: whatever it was, the parent must hear it)
        print(json.dumps({"error": str(error) or type(error).__name__}), file=parent, flush=True)
        os._exit(1)
    # Kilobytes on Linux, bytes on macOS.
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    ready = {"url": server.listening_address, "key": key, "size_bytes": resident}
    print(json.dumps(ready), file=parent, flush=True)
    sys.stdin.read()
    # Without the native teardown, which takes longer and has nothing to save.
    os._exit(0)


if __name__ == "__main__":
    main()
