"""The process that holds the local model: llama.cpp behind HTTP on a free port of 127.0.0.1. Started by local.py only.

A process of its own, because the library has no stop and computes for seconds: here killing it stops it. Started as a
file, not as a module of the package: it needs nothing of the service.

It says one line of JSON on its standard output once it serves: `{"address": …, "key": …}`; the key keeps other users of
the machine out. It ends with its parent, however that ends: standard input is closed then, and the kernel sends a kill.
"""

from __future__ import annotations

import ctypes
import json
import os
import secrets
import signal
import sys
import threading

import xllamacpp  # type: ignore[import-untyped]  # it ships no types

CONTEXT_TOKENS = 1_024  # 400 of prompt by estimate, 200 of answer, and room for the estimate to be wrong
_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


def _end_with_parent() -> None:
    """Ask the kernel for a kill when the parent dies; see the end of standard input too, should it be dead already."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    threading.Thread(target=_watch_input, daemon=True).start()


def _watch_input() -> None:
    while os.read(0, 1024):
        pass
    os._exit(0)


def _parameters(weights: str, name: str, key: str) -> xllamacpp.CommonParams:
    chosen = xllamacpp.CommonParams()
    chosen.model.path, chosen.model_alias = weights, {name}
    chosen.n_ctx, chosen.n_parallel = CONTEXT_TOKENS, 1
    # One thread each: with two on a busy two-core machine it fell from 78 tokens a second to 1-3.
    chosen.cpuparams.n_threads = chosen.cpuparams_batch.n_threads = 1
    chosen.hostnames, chosen.port, chosen.n_threads_http = ["127.0.0.1"], 0, 4
    chosen.api_keys, chosen.endpoint_slots, chosen.endpoint_props, chosen.ui = [key], False, False, False
    chosen.cache_prompt, chosen.cache_ram_mib = True, 64
    chosen.warmup, chosen.offline, chosen.verbosity = True, True, 0
    return chosen


def main() -> None:
    """Serve the weights file named by the first argument, as the model named by the second, until killed."""
    _end_with_parent()
    answer = os.dup(1)
    os.dup2(2, 1)  # what the library prints must not be taken for the answer
    key = secrets.token_hex(16)
    server = xllamacpp.Server(_parameters(sys.argv[1], sys.argv[2], key))
    os.write(answer, json.dumps({"address": server.listening_address, "key": key}).encode() + b"\n")
    os.close(answer)
    threading.Event().wait()


if __name__ == "__main__":
    main()
