"""One request to an endpoint and what comes back, as bytes: bounded, and from nowhere else."""

import json
import zlib
from collections.abc import Mapping
from typing import Any, Final

import openai

MOST_BYTES: Final = 16 << 20
"""Of an answer: no model writes so much, and who sends more may never stop."""
_MOST_HOPS: Final = 5
_ERRORS: Final = frozenset(map(str, range(400, 600)))
_COMPRESSED: Final = ("gzip", "x-gzip", "deflate")


class Astray(Exception):
    """The endpoint sends us to another address, which is told."""


class Unreadable(ValueError):
    """What came back is no answer in any known form; the text says what it is."""


class Reply:
    """What came back of a request: HTTP status, headers, and the body.

    Attributes:
        status: of HTTP, or where an error came with the status 200 the code in it, 0 if there is
            none.
        headers: of the response.
        body: as JSON has it, or the text where it is none.
    """

    def __init__(self, status: int, headers: Mapping[str, str], content: bytes) -> None:
        """``content``: the bytes of the body."""
        self.status, self.headers = status, headers
        try:
            self.body: Any = json.loads(content)
        except (ValueError, RecursionError):
            self.body = content.decode(errors="replace")
        body = self.body if self.is_answer and isinstance(self.body, Mapping) else {}
        if (error := body.get("error")) and not body.get("choices"):
            code = str(error.get("code") if isinstance(error, Mapping) else "")
            self.status = int(code) if code in _ERRORS else 0

    @property
    def is_answer(self) -> bool:
        """Whether it is none of the endpoint's errors."""
        return 200 <= self.status < 300


class Wire(openai.DefaultAsyncHttpxClient):
    """The client's HTTP, without its trust in the other side.

    Bodies are read up to ``MOST_BYTES``, compressed or not. A redirect is followed to the same
    host only: another one would get the pictures, but not the key.
    """

    async def send(self, request: Any, **settings: Any) -> Any:
        """Send a request; the body of the response is read already.

        Raises:
            Astray: a redirect leads elsewhere.
            Unreadable: the body is too long, or compressed in a way that nobody asked for.
        """
        settings |= {"stream": True, "follow_redirects": False}
        for _ in range(_MOST_HOPS):
            response = await super().send(request, **settings)
            if response.next_request is None:
                break
            await response.aclose()
            if _origin(response.next_request.url) != _origin(request.url):
                raise Astray(str(response.next_request.url))
            request = response.next_request
        else:
            raise Unreadable(f"{_MOST_HOPS} redirects in a row")
        try:
            content = await _read(response)
        finally:
            await response.aclose()
        headers = [
            (name, value)
            for name, value in response.headers.multi_items()
            if name.lower() not in ("content-encoding", "content-length", "transfer-encoding")
        ]
        # Of its own kind, whose library differs between versions of the client.
        return type(response)(
            response.status_code, headers=headers, content=content, request=request
        )


async def _read(response: Any) -> bytes:
    raw = bytearray()
    async for piece in response.aiter_raw():
        raw += piece
        if len(raw) > MOST_BYTES:
            raise Unreadable(f"longer than {MOST_BYTES >> 20} MB")
    encoding = response.headers.get("content-encoding", "identity").strip().lower()
    if encoding in ("", "identity"):
        return bytes(raw)
    if encoding not in _COMPRESSED:
        raise Unreadable(f"compressed as {encoding}, which was not asked for")
    try:
        # 47: the header tells which of the two it is.
        content = zlib.decompressobj(wbits=47).decompress(raw, MOST_BYTES + 1)
    except zlib.error as error:
        raise Unreadable(f"compressed, and damaged ({error})") from None
    if len(content) > MOST_BYTES:
        raise Unreadable(f"longer than {MOST_BYTES >> 20} MB")
    return content


def _origin(url: Any) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port
