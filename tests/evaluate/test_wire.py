"""Bodies without an end, bombs, redirects, echoes of secrets: the other side is not trusted."""

import base64
import gzip
import socket
import threading
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.evaluate.asking import KEY, Serve, always, predict
from tests.evaluate.misbehaving_server import Server

from star_r1.errors import UserError
from star_r1.evaluate.predictor import Question
from star_r1.evaluate.run import evaluate
from star_r1.evaluate.wire import MOST_BYTES

BOMB = gzip.compress(b" " * (64 * MOST_BYTES // 16))
HEAD = b"HTTP/1.1 %d X\r\nContent-Type: application/json\r\n%s\r\n"


@contextmanager
def raw(head: bytes, body: bytes, times: int = 1) -> Iterator[int]:
    """A server that says this to everybody; its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    there, _ = listener.accept()
                except OSError:
                    return
                with there:
                    there.recv(65536)
                    try:
                        there.sendall(head)
                        for _ in range(times):
                            there.sendall(body)
                        there.shutdown(socket.SHUT_WR)
                        while there.recv(65536):
                            pass
                    except OSError:
                        pass

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize(
    ("head", "body", "times", "says"),
    [
        (HEAD % (200, b""), b" " * 2**20, 2**12, "longer than 16 MB"),
        (HEAD % (500, b""), b" " * 2**20, 2**12, "longer than 16 MB"),
        (HEAD % (200, b"Content-Encoding: gzip\r\n"), BOMB, 1, "longer than 16 MB"),
        (HEAD % (403, b"Content-Encoding: gzip\r\n"), BOMB, 1, "longer than 16 MB"),
        (HEAD % (200, b"Content-Encoding: gzip\r\n"), b"text", 1, "compressed, and damaged"),
        (HEAD % (200, b"Content-Encoding: br\r\n"), b"text", 1, "compressed as br"),
    ],
)
def test_a_body_that_is_too_much(
    questions: list[Question],
    monkeypatch: pytest.MonkeyPatch,
    head: bytes,
    body: bytes,
    times: int,
    says: str,
) -> None:
    with raw(head, body, times) as port:
        monkeypatch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{port}/v1")
        tracemalloc.start()
        (done,) = predict(questions[:1]).values()
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert done.status == "failed"
    assert done.error.startswith(f"the answer is unreadable: {says}")
    assert "attempts" not in done.error
    assert peak < 5 * MOST_BYTES


def test_a_head_without_an_end(questions: list[Question], monkeypatch: pytest.MonkeyPatch) -> None:
    with raw(b"HTTP/1.1 200 X\r\n", b"X-More: %b\r\n" % (b"x" * 1000), 2**14) as port:
        monkeypatch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{port}/v1")
        (done,) = predict(questions[:1], retries=0).values()
    assert done.status == "failed"
    assert "the connection broke" in done.error


def test_no_redirect_leads_elsewhere(serve: Serve, questions: list[Question]) -> None:
    """The pictures, and on the same host the key too, would go there."""
    server = serve(always("right"))
    with Server(always("right")) as other:
        place = other.url.replace("127", "u:secret@127") + "/chat/completions?token=secret"
        server.refuse = lambda body, headers: (307, {}, {"Location": place})
        with pytest.raises(UserError, match="sends us elsewhere") as raised:
            predict(questions)
        assert not other.asked
    assert f"{other.url}/chat/completions" in str(raised.value)
    assert "secret" not in str(raised.value)


def test_a_redirect_on_the_same_host_is_followed(serve: Serve, questions: list[Question]) -> None:
    server, hops = serve(always("right")), []

    def once(body: Any, headers: Any) -> Any:
        hops.append(headers["authorization"])
        return (307, {}, {"Location": "/v1/chat/completions"}) if len(hops) == 1 else None

    server.refuse = once
    (done,) = predict(questions[:1]).values()
    assert done.status == "answered"
    assert hops == [f"Bearer {KEY}"] * 2
    server.refuse = lambda body, headers: (307, {}, {"Location": "/v1/chat/completions"})
    (done,) = predict(questions[:1]).values()
    assert "redirects in a row" in done.error


SECRETS = {
    "key": KEY,
    "user": "user-name-1",
    "password": "pass%2Fw0rd",
    "token": "t0ken-of-the-url",
}
ECHO = " ".join(
    [
        *SECRETS.values(),
        "pass/w0rd",
        base64.b64encode(b"user-name-1:pass/w0rd").decode(),
        base64.b64encode(f"Bearer {KEY}".encode()).decode(),
        f'{{"authorization":"Bearer {KEY}"}}',
        "/v1/chat/completions?token=t0ken-of-the-url",
    ]
)


@pytest.mark.parametrize("status", [200, 400, 401, 403, 404, 429, 500, 999])
def test_no_echo_of_a_secret_is_kept(
    serve: Serve,
    data_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    status: int,
) -> None:
    """Neither printed nor stored: in errors, in answers, in what is no JSON (999)."""
    seen: list[str] = []
    server, out = serve(always("right"), answer=lambda _: ECHO), tmp_path / "run"

    def echo(body: Any, headers: Any) -> Any:
        seen.append(headers["authorization"])
        if status == 200:
            return None
        return (200, ECHO.encode(), {}) if status == 999 else (status, {"error": ECHO}, {})

    server.refuse = echo
    user = f"{SECRETS['user']}:{SECRETS['password']}@"
    url = f"{server.url.replace('//', '//' + user)}?token={SECRETS['token']}"
    monkeypatch.setenv("OPENAI_BASE_URL", url)
    message = ""
    try:
        evaluate("endpoint:m", data_folder, out, limit=3, retries=1, concurrency=1)
    except UserError as error:
        message = str(error)
    assert seen
    said = capfd.readouterr()
    stored = "".join(path.read_text() for path in out.iterdir())
    for place in (message, said.out, said.err, stored):
        for secret in (*SECRETS.values(), "pass/w0rd", KEY[3:], *map(_in_base64, (KEY,))):
            assert secret not in place
    assert "***" in message + said.err + stored


def _in_base64(secret: str) -> str:
    return base64.b64encode(f"Bearer {secret}".encode()).decode()[:-4]


def test_the_query_of_the_address_is_sent(
    serve: Serve, questions: list[Question], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As gateways want it (``api-version``); the path stays the endpoint's."""
    server = serve(always("right"))
    monkeypatch.setenv("OPENAI_BASE_URL", f"{server.url}?api-version=1&flag=")
    (done,) = predict(questions[:1]).values()
    assert done.status == "answered"
    assert server.paths == ["/v1/chat/completions?api-version=1&flag="]
