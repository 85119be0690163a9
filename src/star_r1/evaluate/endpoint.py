"""Completions of any OpenAI-compatible endpoint, through the official client."""

import asyncio
import base64
import json
import os
import socket
import sys
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from io import BytesIO
from typing import Any, Final, Literal, NoReturn, TypeAlias, get_args
from urllib.parse import urlsplit

import openai
from openai import AsyncOpenAI

from star_r1.errors import UserError
from star_r1.evaluate.predictions import Completion
from star_r1.evaluate.predictor import Question, judge_status

Detail: TypeAlias = Literal["auto", "low", "high"]
DETAILS: Final[tuple[Detail, ...]] = get_args(Detail)

GIVE_UP_AFTER: Final = 16
"""So many questions in a row that all failed end the run: then it is the endpoint, not they."""
_LONGEST_PAUSE: Final = 8.0
_WAITING: Final = "interrupted: waiting for the answers under way; Ctrl-C again drops them"


class Endpoint:
    """A model behind an endpoint that speaks OpenAI's chat completions: vLLM, GPT, Gemini, ...

    Base URL and key come from the environment (``OPENAI_BASE_URL``, ``OPENAI_API_KEY``). The client
    tries again, with growing pauses, after 429, 5xx, time-outs and broken connections; so do
    answers here that are no JSON or hold no choice. What still fails is a completion with the
    status ``failed``. A model that hands over its reasoning apart (``reasoning_content``) gets it
    back as a think block.
    """

    def __init__(
        self,
        model: str,
        *,
        max_new_tokens: int = 256,
        temperature: float | None = 0.0,
        top_p: float = 1.0,
        seed: int = 0,
        detail: Detail = "auto",
        concurrency: int = 8,
        retries: int = 5,
        timeout: float = 120.0,
    ) -> None:
        """Nothing is asked yet.

        Args:
            model: as the endpoint calls it.
            max_new_tokens: a completion that has not ended by then is cut off, at least 1.
            temperature: 0 for greedy; None leaves it to the endpoint, as some models demand.
            top_p: share of the probability that tokens are drawn from.
            seed: handed on with each sampled completion, plus its number.
            detail: of the pictures, as OpenAI has it.
            concurrency: questions in flight, at least 1.
            retries: attempts after the first, at least 0.
            timeout: of one attempt, seconds.

        Raises:
            UserError: there is no key in the environment, or the base URL is none.
        """
        self.model, self.max_new_tokens, self.seed = model, max_new_tokens, seed
        self.temperature, self.top_p, self.detail = temperature, top_p, detail
        self.concurrency, self.retries, self.timeout = concurrency, retries, timeout
        base = os.environ.get("OPENAI_BASE_URL")
        if base and urlsplit(base).scheme not in ("http", "https"):
            raise UserError(
                f"OPENAI_BASE_URL {base!r}: give an address such as http://host:8000/v1"
            )
        # Servers of one's own seldom ask for a key, but the client wants one.
        key = os.environ.get("OPENAI_API_KEY") or ("none" if base else None)
        if key is None:
            raise UserError(
                "no OPENAI_API_KEY in the environment; set it, and OPENAI_BASE_URL for another "
                "endpoint than OpenAI's, such as http://localhost:8000/v1 for vLLM"
            )
        self._key, self._base = key, base
        self._limit = "max_completion_tokens"

    @property
    def identity(self) -> Mapping[str, Any]:
        """The model, where it is, and all that is asked of it."""
        parts = urlsplit(self._base or "https://api.openai.com/v1")
        return {
            "endpoint": f"{parts.scheme}://{parts.hostname}{f':{parts.port}' if parts.port else ''}"
            f"{parts.path.rstrip('/')}",
            "endpoint_model": self.model,
            "max_new_tokens": self.max_new_tokens,
            "temperature": self.temperature,
            "detail": self.detail,
            **({"top_p": self.top_p} if self.top_p < 1 else {}),
        }

    def predict(self, questions: Sequence[Question]) -> Iterator[Completion]:
        """Answer the questions, ``concurrency`` at a time, as answers come.

        Ctrl-C asks nothing more, hands over what is still being answered (it is paid for), and
        raises KeyboardInterrupt then; a second one does not wait.

        Raises:
            UserError: the endpoint cannot be reached, refuses the key, does not know the model,
                or fails at ``GIVE_UP_AFTER`` questions in a row.
        """
        waiting = deque((question, n) for question in questions for n in question.numbers)
        stopped: BaseException | None = None
        with asyncio.Runner() as runner:
            crew = _Crew(self, waiting)
            runner.run(crew.start())
            failed = 0
            while crew.busy or not crew.finished.empty():
                try:
                    done = runner.run(crew.finished.get())
                except KeyboardInterrupt as interrupt:
                    if stopped is not None:
                        raise
                    stopped = interrupt
                    waiting.clear()
                    print(_WAITING, file=sys.stderr)
                    continue
                if done is None:  # one of the crew has left
                    continue
                if isinstance(done, BaseException):
                    stopped = stopped or done
                    waiting.clear()
                    continue
                failed = failed + 1 if done.status == "failed" else 0
                yield done
                if failed == GIVE_UP_AFTER and stopped is None:
                    stopped = UserError(
                        f"endpoint {self._place}: {failed} questions in a row failed, the last "
                        f"with {done.error}; mend that and run the command again"
                    )
                    waiting.clear()
            runner.run(crew.close())
        if stopped is not None:
            raise stopped

    @property
    def _place(self) -> str:
        return str(self.identity["endpoint"])

    def open(self) -> AsyncOpenAI:
        """The client; it belongs to the event loop that is running."""
        return AsyncOpenAI(
            api_key=self._key, base_url=self._base, timeout=self.timeout, max_retries=self.retries
        )

    async def complete(self, client: AsyncOpenAI, question: Question, number: int) -> Completion:
        """One completion, or why there is none.

        Raises:
            UserError: there is no sense in asking anything more.
        """
        patience = (self.timeout + _LONGEST_PAUSE) * (self.retries + 1)
        try:
            # The client's own time-out is for each piece of an answer, so a server that drips
            # could go on for ever.
            async with asyncio.timeout(patience):
                return await self._complete(client, question, number)
        except TimeoutError:
            why = f"no answer within {patience:.0f} s"
        except openai.APITimeoutError:
            why = f"no answer within {self.timeout:g} s, {self.retries + 1} times"
        except openai.APIConnectionError as error:
            _check_reachable(error, self._place)
            why = f"the connection broke: {_first_line(error.__cause__ or error)}"
        except openai.APIStatusError as error:
            if error.status_code in (401, 403, 404):
                self._give_up(error)
            if _is_refusal(error):
                return self._make(question, number, "", "refused")
            why = f"status {error.status_code}: {_message(error)}"
        except _Unreadable as error:
            why = str(error)
        return self._make(question, number, "", "failed", error=why)

    async def _complete(self, client: AsyncOpenAI, question: Question, number: int) -> Completion:
        messages = to_openai(question.messages, question.see(), self.detail)
        for attempt in range(self.retries + 1):
            try:
                return self._read(await self._create(client, messages, number), question, number)
            except (_Unreadable, ValueError, openai.APIResponseValidationError) as error:
                if attempt == self.retries:
                    raise _Unreadable(f"the answer is unreadable: {_first_line(error)}") from None
                await asyncio.sleep(min(0.5 * 2**attempt, _LONGEST_PAUSE))
        raise AssertionError  # the last attempt returns or raises

    async def _create(self, client: AsyncOpenAI, messages: list[Any], number: int) -> Any:
        settings: dict[str, Any] = {self._limit: self.max_new_tokens}
        if self.temperature is not None:
            settings["temperature"] = self.temperature
        if self.temperature != 0:
            settings["seed"] = self.seed + number
        if self.top_p < 1:
            settings["top_p"] = self.top_p
        try:
            return await client.chat.completions.create(
                model=self.model, messages=messages, **settings
            )
        except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
            # Older servers know the limit by its former name only.
            if self._limit not in _message(error) or self._limit == "max_tokens":
                raise
            self._limit = "max_tokens"
            return await self._create(client, messages, number)

    def _read(self, answer: Any, question: Question, number: int) -> Completion:
        """The completion in an answer; ``answer`` is whatever came, so nothing of it is sure."""
        try:
            choice = answer.choices[0]
            message = choice.message
            content = message.content
        except (AttributeError, IndexError, TypeError):
            raise _Unreadable(f"no choice in {str(answer)[:60]!r}") from None
        if content is not None and not isinstance(content, str):
            raise _Unreadable(f"content is {str(content)[:60]!r}")
        text = content or ""
        reasoning = getattr(message, "reasoning_content", None) or getattr(
            message, "reasoning", None
        )
        if isinstance(reasoning, str) and reasoning and "<think>" not in text:
            text = f"<think>{reasoning}</think>{text}"
        refusal = getattr(message, "refusal", None)
        if choice.finish_reason == "content_filter" or (refusal and not text):
            text, status = text or str(refusal or ""), "refused"
        else:
            status = judge_status(text, cut_off=choice.finish_reason == "length")
        usage = getattr(answer, "usage", None)
        return self._make(
            question,
            number,
            text,
            status,
            prompt_tokens=_count(usage, "prompt_tokens"),
            completion_tokens=_count(usage, "completion_tokens"),
        )

    def _make(
        self, question: Question, number: int, text: str, status: Any, **more: Any
    ) -> Completion:
        return Completion(question.id, text, number, status, question.key, **more)

    def _give_up(self, error: openai.APIStatusError) -> NoReturn:
        what = {
            401: "refuses the key; set OPENAI_API_KEY",
            403: "forbids this; look at what the key may do",
            404: f"does not know model {self.model!r}, or OPENAI_BASE_URL is not its address",
        }[error.status_code]
        raise UserError(f"endpoint {self._place} {what} ({_message(error)})") from None


class _Crew:
    """Workers on one event loop: each takes what waits and puts what is finished."""

    def __init__(self, endpoint: Endpoint, waiting: deque[tuple[Question, int]]) -> None:
        self.endpoint, self.waiting = endpoint, waiting
        self.finished: asyncio.Queue[Completion | BaseException | None] = asyncio.Queue()
        self.busy = 0
        self.tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        self.client = self.endpoint.open()
        self.busy = min(self.endpoint.concurrency, len(self.waiting))
        self.tasks = [asyncio.create_task(self._work()) for _ in range(self.busy)]

    async def close(self) -> None:
        await self.client.close()

    async def _work(self) -> None:
        try:
            while self.waiting:
                question, number = self.waiting.popleft()
                done = await self.endpoint.complete(self.client, question, number)
                self.finished.put_nowait(done)
        except Exception as error:
            self.finished.put_nowait(error)
        finally:
            self.busy -= 1
            self.finished.put_nowait(None)


class _Unreadable(Exception):
    """An answer that holds no completion."""


def to_openai(
    messages: Sequence[Mapping[str, Any]], pictures: Sequence[Any], detail: Detail = "auto"
) -> list[dict[str, Any]]:
    """A conversation as OpenAI's API has it, pictures as PNG data URLs in place of placeholders.

    Args:
        messages: as ``tvr.prompt.build_prompt`` gives them; content may also be plain text.
        pictures: for the placeholders, in their order; Pillow images.
        detail: asked for each picture.
    """
    left = iter(pictures)
    converted = []
    for message in messages:
        content = message["content"]
        if not isinstance(content, str):
            content = [
                {"type": "image_url", "image_url": {"url": _data_url(next(left)), "detail": detail}}
                if part["type"] == "image"
                else {"type": "text", "text": part["text"]}
                for part in content
            ]
            if all(part["type"] == "text" for part in content):
                # Some servers take only text from system and assistant.
                content = "\n".join(part["text"] for part in content)
        converted.append({"role": message["role"], "content": content})
    return converted


def _data_url(picture: Any) -> str:
    buffer = BytesIO()
    picture.save(buffer, "PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _check_reachable(error: BaseException, place: str) -> None:
    """Raise a UserError where nothing listens, or there is no such host."""
    cause: BaseException | None = error
    while cause is not None:
        for one in (cause, *getattr(cause, "exceptions", ())):
            if isinstance(one, ConnectionRefusedError | socket.gaierror):
                raise UserError(
                    f"endpoint {place} cannot be reached ({_first_line(one)}); start it, or set "
                    "OPENAI_BASE_URL; the same command goes on then"
                ) from None
        cause = cause.__cause__ or cause.__context__


def _is_refusal(error: openai.APIStatusError) -> bool:
    """Whether a filter of the provider's turned the question down."""
    return error.status_code == 400 and any(
        word in f"{error.code} {error.body}" for word in ("content_filter", "content_policy")
    )


def _message(error: openai.APIStatusError) -> str:
    """What the endpoint says of its error, one short line."""
    body = error.body
    if isinstance(body, Mapping):
        inner = body.get("error", body)
        said = inner.get("message", inner) if isinstance(inner, Mapping) else inner
    else:
        said = body or error.message
    text = said if isinstance(said, str) else json.dumps(said, default=str)
    return " ".join(text.split())[:200] or type(error).__name__


def _first_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text[:200] or type(error).__name__


def _count(usage: Any, name: str) -> int:
    value = getattr(usage, name, None)
    return value if type(value) is int and value >= 0 else 0
