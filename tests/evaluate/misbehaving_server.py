"""An OpenAI-compatible server that misbehaves on purpose, and writes down all that it did.

    python -m tests.evaluate.misbehaving_server --port 0 --log FILE

prints its port and serves until it is killed. What it does follows from the question (a hash of
messages and seed) and from how often that was asked: ``misbehave``, or another plan of a test.
"""

import argparse
import gzip
import hashlib
import json
import select
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Final, TypeAlias

FAULTS: Final = (
    *("429", "429_wait", "500", "503", "hang", "drip", "garbage", "html", "half_json"),
    *("no_choices", "error_as_200", "cut", "reset"),
    # An answer that did not come to its end, or of which nobody knows.
    *("end_error", "end_network_error", "end_abort", "end_none", "end_none_null", "end_unheard"),
    # The same wish in other words.
    *("429_date", "429_ms", "429_info", "429_words", "429_reset", "429_as_200", "error_beside"),
)
"""What is worth another attempt."""

ENDS: Final = (
    *("right", "right", "right", "right", "slow", "no_usage", "absurd_usage", "reasoning"),
    *("empty", "null", "cut_off", "refusal", "filtered", "refused_400", "always_500"),
    *("end_turn", "max_tokens", "safety", "tools", "thinking_part", "details", "half_tagged"),
    *("output_text", "plain_parts", "refusal_part", "flagged_403", "inspection_400", "too_large"),
    *("strange_parts", "as_text", "zipped"),
)
"""What a question ends with."""

STATUSES: Final[Mapping[str, str]] = {
    **dict.fromkeys(("right", "slow", "no_usage", "absurd_usage", "reasoning"), "answered"),
    **dict.fromkeys(("end_turn", "thinking_part", "details", "half_tagged"), "answered"),
    **dict.fromkeys(("output_text", "plain_parts", "as_text", "zipped"), "answered"),
    **dict.fromkeys(("empty", "null", "tools"), "empty"),
    **dict.fromkeys(("refusal", "filtered", "refused_400", "safety"), "refused"),
    **dict.fromkeys(("refusal_part", "flagged_403", "inspection_400"), "refused"),
    **dict.fromkeys(("cut_off", "max_tokens"), "cut_off"),
    **dict.fromkeys(("always_500", "too_large", "strange_parts"), "failed"),
}
"""The status of the completion after each end."""

REASONS: Final[Mapping[str, str | None]] = {
    **{"end_error": "error", "end_network_error": "network_error", "end_abort": "abort"},
    **{"end_none": None, "end_none_null": None, "end_unheard": "unheard of"},
    **{"cut_off": "length", "filtered": "content_filter", "end_turn": "END_TURN"},
    **{"max_tokens": "MAX_TOKENS", "safety": "FinishReason.SAFETY", "tools": "tool_calls"},
}
"""The finish reason of answers that have another one than ``stop``."""

_ERRORS: Final[Mapping[str, tuple[int, Any]]] = {
    "refused_400": (400, {"error": {"message": "filtered", "code": "content_filter"}}),
    "flagged_403": (
        403,
        {"error": {"message": "Your input was flagged", "metadata": {"reasons": ["violence"]}}},
    ),
    "inspection_400": (
        400,
        {
            "error": {"code": "data_inspection_failed", "message": "it may be inappropriate"},
        },
    ),
    "too_large": (413, {"error": {"message": "the picture is too large"}}),
    "error_as_200": (200, {"error": {"message": "upstream is away", "code": 502}}),
    "429_as_200": (200, {"error": {"message": "slowly", "code": 429, "retry_after_ms": 50}}),
    "no_choices": (200, {"id": "x", "object": "chat.completion", "choices": []}),
}

_WAIT: Final = 0.05
"""Seconds that every wish asks for, but for that of a date, which knows whole seconds only."""

MOST_FAULTS: Final = 2
SLOW: Final = 0.15

Plan: TypeAlias = Callable[[str, int], str]
"""Hash of a question, how often it was asked before -> one of FAULTS or ENDS."""

Refuse: TypeAlias = Callable[[Mapping[str, Any], Any], tuple[int, Any, dict[str, str]] | None]
"""Body and headers of a request -> status, body (bytes as they are, or JSON) and headers of what
comes back; or None to go by the plan."""


def misbehave(question: str, attempt: int) -> str:
    """Up to ``MOST_FAULTS`` faults, then the question's end; by its hash."""
    return act(int(question, 16), attempt)


def no_temperature(body: Mapping[str, Any], headers: Any) -> Any:
    """A ``Refuse``: as models that reason do it."""
    if "temperature" not in body:
        return None
    message = "Unsupported value: 'temperature' does not support this; only the default is"
    return 400, {"error": {"message": message, "param": "temperature"}}, {}


def end_of(question: str) -> str:
    """What ``misbehave`` ends with."""
    return end(int(question, 16))


def act(lot: int, attempt: int) -> str:
    """What ``misbehave`` does at a question that drew this lot."""
    if attempt < lot % (MOST_FAULTS + 1) and STATUSES[end(lot)] != "failed":
        return FAULTS[(lot + 7 * attempt) % len(FAULTS)]
    return end(lot)


def end(lot: int) -> str:
    """What ``act`` ends with."""
    return ENDS[lot % len(ENDS)]


def hash_question(messages: Any, seed: int | None = None) -> str:
    """Of messages as they are sent, and the seed where there is one."""
    content = json.dumps([messages, seed], sort_keys=True).encode()
    return hashlib.sha256(content).hexdigest()[:16]


def right_answer(question: str) -> str:
    """To the question with this hash; well-formed, and now and then longer than the others."""
    lot = int(question, 16)
    color = ("red", "blue", "gray", "green")[lot % 4]
    return f"<think>{question}{' is' * (lot % 9)}</think><answer>{lot % 5}.color.{color}</answer>"


def usage_of(question: str) -> tuple[int, int]:
    """Tokens of the prompt and of the completion."""
    return 100 + int(question, 16) % 50, len(right_answer(question))


@dataclass(frozen=True, slots=True)
class Asked:
    """One request.

    Attributes:
        question: its hash.
        attempt: how often it was asked before.
        did: one of FAULTS and ENDS.
        paid: whether an answer was made: it costs, also where the client has left.
        body: of the request; not in the log.
        at: seconds on a clock when it came.
    """

    question: str
    attempt: int
    did: str
    paid: bool
    body: Mapping[str, Any]
    at: float = 0.0

    @property
    def seed(self) -> int | None:
        return self.body.get("seed")


def _apart(how: str, thought: str, rest: str) -> dict[str, Any]:
    """Of a message: an answer's reasoning beside the rest, in one of the ways there are."""
    if how == "reasoning":
        return {"content": rest, "reasoning_content": thought}
    if how == "details":
        encrypted = {"type": "reasoning.encrypted", "data": "AAAA"}
        details = [encrypted, {"type": "reasoning.text", "text": thought}]
        return {"content": rest, "reasoning_details": details}
    if how == "half_tagged":  # the prompt held the opening tag
        return {"content": f"{thought}</think>{rest}"}
    parts: list[Any] = [{"type": "thinking", "thinking": [{"type": "text", "text": thought}]}]
    if how == "plain_parts":
        parts = [{"type": "thinking", "thinking": thought}, {"type": "redacted_thinking"}]
        return {"content": [*parts, rest[:5], {"text": rest[5:]}]}
    return {"content": [*parts, {"type": "text", "text": rest}]}


class Server:
    """Serves in threads of this process while the block runs."""

    def __init__(
        self,
        plan: Plan = misbehave,
        *,
        port: int = 0,
        log: Path | None = None,
        answer: Callable[[str], Any] = right_answer,
        slow: float = SLOW,
    ) -> None:
        self.plan, self.log, self.answer, self.slow = plan, log, answer, slow
        self.asked: list[Asked] = []
        self.paths: list[str] = []
        self.counts: Counter[str] = Counter()
        self.lock, self.closing = threading.Lock(), threading.Event()
        self.refuse: Refuse = lambda body, headers: None
        self.http = _HTTP(("127.0.0.1", port), _Handler)
        self.http.owner = self
        self.port = self.http.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}/v1"

    def __enter__(self) -> "Server":
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.closing.set()
        self.http.shutdown()
        self.http.server_close()

    def next_attempt(self, question: str) -> int:
        with self.lock:
            self.counts[question] += 1
            return self.counts[question] - 1

    def note(self, asked: Asked) -> None:
        with self.lock:
            self.asked.append(asked)
            if self.log is not None:
                row = {**asdict(asked), "body": None, "seed": asked.seed}
                with self.log.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(row) + "\n")

    def paid(self) -> Counter[str]:
        """Question -> how often it got a whole answer."""
        with self.lock:
            return Counter(asked.question for asked in self.asked if asked.paid)

    def busy(self) -> bool:
        """Whether something is being answered."""
        with self.lock:
            return len(self.asked) < self.counts.total()

    def did(self) -> Counter[str]:
        with self.lock:
            return Counter(asked.did for asked in self.asked)


class _HTTP(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128
    owner: Server

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that left: nothing to print."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _HTTP

    def log_message(self, format: str, *words: Any) -> None:
        """Nothing; ``Server.note`` does it."""

    def do_GET(self) -> None:
        self._send(404, b"<html>no such page</html>", "text/html")

    def do_POST(self) -> None:
        owner = self.server.owner
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        owner.paths.append(self.path)
        if self.path.partition("?")[0] != "/v1/chat/completions":
            return self._send(404, b"<html>no such page</html>", "text/html")
        if (refused := owner.refuse(body, self.headers)) is not None:
            status, answer, more = refused
            content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            return self._send(status, content, more=more)
        question = hash_question(body["messages"], body.get("seed"))
        attempt = owner.next_attempt(question)
        did, at = owner.plan(question, attempt), time.monotonic()
        paid = did not in FAULTS and STATUSES[did] != "failed"
        try:
            self._do(did, question)
            self.wfile.flush()
        except OSError:  # the client has left
            self.close_connection = True
        finally:
            owner.note(Asked(question, attempt, did, paid, body, at))

    def _do(self, did: str, question: str) -> None:
        if did in ("500", "503", "429", "always_500"):
            self._json({"error": {"message": f"on purpose: {did}"}}, int(did[-3:]))
        elif did in _ERRORS:
            status, body = _ERRORS[did]
            self._json(body, status)
        elif did.startswith("429_"):
            self._wish(did)
        elif did == "hang":
            self._wait_for_the_client_to_leave()
        elif did == "drip":
            self._head(200, {"Content-Type": "application/json", "Connection": "close"})
            self._wait_for_the_client_to_leave(b" ")
        elif did == "garbage":
            self._send(200, b"\xff\xfe\x00{]]" * 20)
        elif did == "html":
            self._send(200, b"<html>Welcome</html>", "text/html")
        elif did in ("cut", "reset", "half_json"):
            self._send_half(did, json.dumps(self._answer("right", question)).encode())
        else:
            if did == "slow":
                time.sleep(self.server.owner.slow)
            content = json.dumps(self._answer(did, question)).encode()
            if did == "zipped":
                self._send(200, gzip.compress(content), more={"Content-Encoding": "gzip"})
            else:
                kind = "text/html" if did == "as_text" else "application/json"
                self._send(200, content, kind)

    def _wish(self, how: str) -> None:
        """Ask to be asked again a little later."""
        date = formatdate(time.time() + 1, usegmt=True)
        wait = f"{1000 * _WAIT:g}ms"
        headers: dict[str, dict[str, str]] = {
            "429_wait": {"Retry-After": f"{_WAIT}"},
            "429_date": {"Retry-After": date},
            "429_ms": {"retry-after-ms": f"{1000 * _WAIT}"},
            "429_reset": {
                **{"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": wait},
                **{"x-ratelimit-remaining-tokens": "9", "x-ratelimit-reset-tokens": "6m0s"},
            },
        }
        words = f"slowly; try again in {wait}" if how == "429_words" else "slowly"
        kind = "type.googleapis.com/google.rpc.RetryInfo"
        info = {"details": [{"@type": kind, "retryDelay": f"{_WAIT}s"}]}
        error = {"message": words, **(info if how == "429_info" else {})}
        body: Any = {"error": error}
        self._json([body] if how == "429_info" else body, 429, headers.get(how))

    def _answer(self, did: str, question: str) -> dict[str, Any]:
        text = self.server.owner.answer(question)
        message: dict[str, Any] = {"role": "assistant", "content": text}
        finish = REASONS.get(did, "stop")
        prompt, completion = usage_of(question)
        usage: Any = {"prompt_tokens": prompt, "completion_tokens": completion}
        if did in ("empty", "null"):
            message["content"] = "" if did == "empty" else None
        elif did == "refusal":
            message |= {"content": None, "refusal": "I'm sorry, I can't look at that."}
        elif did == "end_none_null":
            message["content"] = None
        elif did == "tools":
            message |= {"content": None, "tool_calls": [{"type": "function", "function": {}}]}
        elif did in ("reasoning", "thinking_part", "details", "half_tagged", "plain_parts"):
            thought, _, rest = text.removeprefix("<think>").partition("</think>")
            message |= _apart(did, thought, rest)
        elif did == "output_text":
            message["content"] = [{"type": "output_text", "text": text, "annotations": []}]
        elif did == "refusal_part":
            message["content"] = [{"type": "refusal", "refusal": "I can't."}]
        elif did == "strange_parts":
            message["content"] = [{"type": "hologram", "hologram": text}]
        elif did in ("cut_off", "max_tokens", "safety", *REASONS.keys() & {*FAULTS}):
            message["content"] = text[:20]
        elif did == "no_usage":
            usage = None
        elif did == "absurd_usage":
            usage = {"prompt_tokens": -5, "completion_tokens": 10**40, "total_tokens": "many"}
        choice = {"index": 0, "message": message, "finish_reason": finish}
        if did == "error_beside":
            choice["error"] = {"message": "upstream broke off", "code": 502}
        return {
            **{"id": "x", "object": "chat.completion", "created": 0, "model": "m"},
            **{"choices": [choice], "usage": usage},
        }

    def _send_half(self, how: str, body: bytes) -> None:
        half = body[: len(body) // 2]
        if how == "half_json":
            return self._send(200, half)
        self._head(200, {"Content-Type": "application/json", "Content-Length": str(len(body))})
        self.wfile.write(half)
        self.wfile.flush()
        self.close_connection = True
        if how == "reset":
            now = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, now)
            self.connection.close()

    def _wait_for_the_client_to_leave(self, drip: bytes = b"") -> None:
        self.close_connection = True
        while not self.server.owner.closing.is_set():
            if select.select([self.connection], [], [], 0.02)[0]:
                return  # there is nothing it could still say
            if drip:
                self.wfile.write(drip)
                self.wfile.flush()

    def _json(self, body: Any, status: int = 200, more: Mapping[str, str] | None = None) -> None:
        # Also what is no JSON by the book, such as lone surrogates, goes out as it is.
        self._send(status, json.dumps(body).encode(), more=more)

    def _send(
        self,
        status: int,
        body: bytes,
        kind: str = "application/json",
        more: Mapping[str, str] | None = None,
    ) -> None:
        self._head(status, {"Content-Type": kind, "Content-Length": str(len(body)), **(more or {})})
        self.wfile.write(body)

    def _head(self, status: int, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=0, help="0 for any that is free")
    parser.add_argument("--log", type=Path, help="one line of JSON a request")
    parser.add_argument("--behaved", action="store_true", help="answer every question right")
    arguments = parser.parse_args()
    plan: Plan = (lambda question, attempt: "right") if arguments.behaved else misbehave
    with Server(plan, port=arguments.port, log=arguments.log) as server:
        print(server.port, flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
