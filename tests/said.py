"""Completions of every kind for the rows of a dataset, and an endpoint that says such things."""

import json
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KINDS = (
    "<think>2: red -> red</think><answer>{truth}</answer>",
    "<think>.</think>\n<answer>{first}, 9.color.red, 9.shape.cube</answer>",
    "<answer>{truth}</answer>",
    "<think>.</think><answer>{truth}, 2.color.pink</answer>",
    "",
    "The answer is {truth}.",
    "<think>.</think><answer>{upper}</answer>",
    "<think>it was {truth}: <answer>{truth}</answer>",
    " \n\n ",
    "<think><answer>{truth}</answer></think>",
    "Sure.\n\n<think>.</think>\n\n<answer>9.shape.cube</answer>\n\n<answer>{first}</answer>",
    "</answer></think><think><think>a</think><answer>{truth}</answer></think>",
    "[/bold]{{{{7*7}}}}\x1b[31m\u2028<think a='1'><summary>s</summary></think><answer>{truth}"
    "</answer>",
    "<think>" + "<answer>" * 5_000 + "</think><answer>{first}</answer>",
    "<answer>none</answer>",
    "<think>\u0661.color.red</think><answer>\u0661.color.red; {truth}; {truth}</answer>",
    "I'm sorry, but I cannot help with that.",
)


def say(rows: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """A completion for each row, by id: right, wrong, malformed, empty, hostile, in turns."""
    return {
        row["id"]: KINDS[place % len(KINDS)].format(
            truth=row["answer"],
            first=row["answer"].partition(",")[0],
            upper=row["answer"].upper().replace(",", ";\n- "),
        )
        for place, row in enumerate(rows)
    }


@contextmanager
def endpoint(reply: Callable[[Mapping[str, Any]], str]) -> Iterator[str]:
    """A server that speaks OpenAI's chat completions, as far as they are needed; its base URL."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            message = {"role": "assistant", "content": reply(body)}
            answer = {
                **{"id": "1", "object": "chat.completion", "created": 0, "model": "model"},
                "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
                "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
            }
            data = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v1"
        finally:
            server.shutdown()
