"""A large model's stand-in that answers its prompt at once: `python models/echo/stand_in.py --port N --assets DIR`.

Serves /v1/chat/completions (streaming too) and /health on 127.0.0.1, with nothing but the standard library. Takes the
arguments of models/stand_in.py; it reads no files of models.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent / "generator" / "1"))

from echo import Calls, Echo

MAX_TOKENS = 128
"""Of an answer whose request names no number."""

LARGEST_BODY = 8 << 20
"""Bytes: more than the largest request."""


class Server(ThreadingHTTPServer):
    daemon_threads = True
    # Connections that wait to be taken: as many as a burst of calls brings.
    request_queue_size = 128

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.calls = Calls()


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._reply(200 if self.path == "/health" else 404, {})

    def do_POST(self) -> None:
        length = int(self.headers.get("content-length") or 0)
        if length > LARGEST_BODY:
            self.close_connection = True
            self._reply(413, {"error": {"message": "the body is too large"}})
            return
        body = self.rfile.read(length)
        if self.path != "/v1/chat/completions":
            self._reply(404, {"error": {"message": f"there is no {self.path}"}})
            return
        try:
            asked = json.loads(body)
            prompt = "\n".join(message["content"] for message in asked["messages"])
            max_tokens = int(asked.get("max_tokens") or MAX_TOKENS)
        except (ValueError, KeyError, TypeError) as failure:
            self._reply(400, {"error": {"message": f"cannot be read: {failure!r}"}})
            return
        answer = self.server.calls.answer(prompt, max_tokens)
        model = str(asked.get("model"))
        if asked.get("stream"):
            self._stream(model, answer)
        else:
            choice = {"index": 0, "message": {"role": "assistant", "content": answer.text}}
            self._reply(200, _document(model, {**choice, "finish_reason": answer.finish_reason}, answer))

    def _stream(self, model: str, answer: Echo) -> None:
        self.close_connection = True
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        for word in answer.text.splitlines(keepends=True):
            self._event(_document(model, {"index": 0, "delta": {"content": word}, "finish_reason": None}))
        self._event(_document(model, {"index": 0, "delta": {}, "finish_reason": answer.finish_reason}, answer))
        self.wfile.write(b"data: [DONE]\n\n")

    def _event(self, document: dict[str, Any]) -> None:
        self.wfile.write(f"data: {json.dumps(document)}\n\n".encode())

    def _reply(self, status: int, document: dict[str, Any]) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: a line a call would be its log."""


def _document(model: str, choice: dict[str, Any], answer: Echo | None = None) -> dict[str, Any]:
    document: dict[str, Any] = {"object": "chat.completion", "model": model, "choices": [choice]}
    if answer is not None:
        document["usage"] = {"prompt_tokens": answer.input_tokens, "completion_tokens": answer.output_tokens}
    return document


def main() -> int:
    parser = argparse.ArgumentParser(description="An OpenAI-compatible endpoint that answers the prompt itself.")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--assets", type=Path, required=True, help="not read")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with Server(arguments.port) as server:
        print(f"echo at 127.0.0.1:{server.server_port}", flush=True)
        server.serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main())
