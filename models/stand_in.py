"""A stand-in for a large model: `python models/stand_in.py --port N --assets DIR [--alias NAME]`.

An OpenAI-compatible server over the small model's own file, for trying the frontier route where no provider can be
reached. It is slow and takes one request at a time, which is what it stands in for; its answers are those of a model
of 135 million parameters and say nothing about a large one. It listens on 127.0.0.1 unless told otherwise.

Serves /v1/chat/completions (streaming too), /v1/models, /health, and /metrics, where its tokens are counted. Ends with
code 0 on SIGTERM and SIGINT.
"""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

CONTEXT_TOKENS = 4096
"""Prompt and answer of one request; the model was trained on 8,192, and memory for keys and values is what it costs."""

THREADS = 1
"""Its threads wait for each other by spinning, so beside the small model's engine two are slower than one: on two busy
cores 24 tokens took 10 s, and take 2.5 s."""

QUIET = 1
"""llama.cpp's log level that leaves errors only: its request log would print prompts."""


def main() -> int:
    parser = argparse.ArgumentParser(description="A small model behind an OpenAI-compatible API, as a stand-in.")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; a container needs 0.0.0.0")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--assets", type=Path, required=True, help="the folder that prepare.py filled")
    parser.add_argument("--alias", default="stand-in-large", help="the model name that clients send")
    arguments = parser.parse_args()
    model = arguments.assets / "generator" / "smollm2-135m-instruct.gguf"
    if not model.is_file():
        print(f"stand-in: {model} is missing: run models/prepare.py --target {arguments.assets}", file=sys.stderr)
        return 1

    # Blocked before the engine makes its threads, which inherit it: the signal waits for sigwait below.
    ends = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)

    import xllamacpp

    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(model)
    parameters.model_alias = {arguments.alias}
    parameters.hostnames = [arguments.host]
    parameters.port = arguments.port
    parameters.n_ctx = CONTEXT_TOKENS
    parameters.n_parallel = 1
    parameters.cpuparams.n_threads = THREADS
    parameters.cpuparams_batch.n_threads = THREADS
    parameters.n_gpu_layers = 0
    parameters.ui = False
    parameters.endpoint_metrics = True
    parameters.offline = True
    parameters.verbosity = QUIET
    server = xllamacpp.Server(parameters)
    print(
        f"stand-in for a large model, not a large model: {model.name} as {arguments.alias} "
        f"at {server.listening_address}",
        flush=True,
    )
    signal.sigwait(ends)
    del server
    return 0


if __name__ == "__main__":
    sys.exit(main())
