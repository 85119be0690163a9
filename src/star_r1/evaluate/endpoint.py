"""Completions of any OpenAI-compatible endpoint, through the official client."""

import asyncio
import base64
import json
import os
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from io import BytesIO
from typing import Any, Final, Literal, TypeAlias
from urllib.parse import urlsplit

import openai
from openai import AsyncOpenAI

from star_r1.errors import UserError
from star_r1.evaluate.flight import Crew, Failed, complete
from star_r1.evaluate.predictions import Completion
from star_r1.evaluate.predictor import Question, judge_status

Detail: TypeAlias = Literal["auto", "low", "high"]

GIVE_UP_AFTER: Final = 16
"""So many questions in a row that all failed end the run: then it is the endpoint, not they."""

_OPENAI: Final = "https://api.openai.com/v1"
_CONNECT: Final = 10.0
"""Seconds until a connection must stand, if the time-out is not shorter still."""
_LONGEST_WISH: Final = 120.0
"""Who wants to be asked again later than this is not asked again, as in OpenAI's client."""
_MOST_TOKENS: Final = 10**9
"""No answer has more; who counts more counts wrong."""


class Endpoint:
    """A model behind an endpoint that speaks OpenAI's chat completions: vLLM, GPT, Gemini, ...

    Base URL and key come from the environment (``OPENAI_BASE_URL``, ``OPENAI_API_KEY``). An
    attempt that ends in 408, 409, 429, 5xx, a time-out, a broken connection or an answer that
    cannot be read is made again after a pause: the one that the endpoint asks for
    (``Retry-After``), or half a second and then twice as long each time. What still fails is a
    completion with the status ``failed``. A model that hands over its reasoning apart
    (``reasoning_content``) gets it back as a think block.
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
            timeout: of one attempt as a whole, seconds.

        Raises:
            UserError: no model is named, there is no key in the environment, or the base URL is
                none.
        """
        if not model.strip():
            raise UserError("endpoint:NAME: no name; give the model as the endpoint calls it")
        self.model, self.max_new_tokens, self.seed = model, max_new_tokens, seed
        self.temperature, self.top_p, self.detail = temperature, top_p, detail
        self.concurrency, self.retries, self.timeout = concurrency, retries, timeout
        self._base, self._key = _read_environment()
        # Older servers know the limit by its former name only.
        self._limits: tuple[str, ...] = ("max_completion_tokens", "max_tokens")

    @property
    def identity(self) -> Mapping[str, Any]:
        """The model, where it is, and all that is asked of it."""
        return {
            "endpoint": self.place,
            "endpoint_model": self.model,
            "max_new_tokens": self.max_new_tokens,
            "temperature": self.temperature,
            "detail": self.detail,
            **({"top_p": self.top_p} if self.top_p < 1 else {}),
        }

    @property
    def place(self) -> str:
        """The base URL without what may be secret in one."""
        parts = urlsplit(self._base)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}"

    @property
    def _connect(self) -> float:
        return min(self.timeout / 2, _CONNECT)

    def predict(self, questions: Sequence[Question]) -> Iterator[Completion]:
        """Answer the questions, ``concurrency`` at a time, as answers come.

        Ctrl-C asks nothing more, hands over what is still being answered (it is paid for), and
        raises KeyboardInterrupt then; a second one does not wait.

        Raises:
            UserError: the endpoint cannot be reached, refuses the key, does not know the model,
                or fails at ``GIVE_UP_AFTER`` questions in a row that did not fail before.
        """
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return self._predict(questions)
        return _elsewhere(self._predict(questions))  # a notebook's loop is running in this thread

    def _predict(self, questions: Sequence[Question]) -> Generator[Completion, None, None]:
        with asyncio.Runner() as runner:
            crew = Crew(self, ((question, n) for question in questions for n in question.numbers))
            crew.watch(runner.get_loop())
            runner.run(crew.start())
            hopeless = {question.id for question in questions if question.failed}
            failed = 0
            try:
                while (done := runner.run(crew.next())) is not None:
                    if done.status != "failed":
                        failed = 0
                    elif done.id not in hopeless:
                        failed += 1
                    yield done
                    if failed == GIVE_UP_AFTER:
                        crew.stop(self._error(f": {failed} questions in a row failed", done.error))
            finally:
                runner.run(crew.close())
        if crew.reason is not None:
            raise crew.reason

    def open(self) -> AsyncOpenAI:
        """The client; it belongs to the event loop that is running."""
        return AsyncOpenAI(
            api_key=self._key,
            base_url=self._base,
            timeout=openai.Timeout(self.timeout, connect=self._connect),
            max_retries=0,  # here a whole answer counts as an attempt, see ``flight.Crew``
        )

    def encode(self, question: Question) -> list[Any]:
        """Its messages as OpenAI's API has them, pictures in them."""
        return to_openai(question.messages, question.see(), self.detail)

    async def attempt(
        self, client: AsyncOpenAI, messages: list[Any], question: Question, number: int
    ) -> Completion:
        """Ask once.

        Args:
            client: from ``open``.
            messages: the question's, from ``to_openai``.
            question: what is answered.
            number: which of its completions.

        Raises:
            Failed: no answer came, or none that can be read.
            UserError: there is no sense in asking anything more.
        """
        try:
            # The client's own time-out is for each piece of an answer, so a server that drips
            # could go on for ever.
            async with asyncio.timeout(self.timeout):
                answer = await self._create(client, messages, number)
            return self._read(answer, question, number)
        except (TimeoutError, openai.APIConnectionError) as error:
            raise self._no_answer(error) from None
        except openai.APIStatusError as error:
            if _is_refusal(error):
                return complete(question, number, "", "refused")
            raise self._bad_status(error) from None
        except (ValueError, RecursionError, openai.APIResponseValidationError) as error:
            raise Failed(f"the answer is unreadable: {self._line(error)}") from None

    async def _create(self, client: AsyncOpenAI, messages: list[Any], number: int) -> Any:
        settings: dict[str, Any] = {}
        if self.temperature is not None:
            settings["temperature"] = self.temperature
        if self.temperature != 0:
            settings["seed"] = self.seed + number
        if self.top_p < 1:
            settings["top_p"] = self.top_p
        refused: openai.APIStatusError | None = None
        for limit in self._limits:
            try:
                answer = await client.chat.completions.create(
                    model=self.model,
                    messages=messages,
                    **{**settings, limit: self.max_new_tokens},
                )
            except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
                refused = refused or error
                if limit not in f"{error.body}":
                    break
            else:
                self._limits = (limit,)
                return answer
        assert refused is not None
        raise refused

    def _read(self, answer: Any, question: Question, number: int) -> Completion:
        """The completion in an answer; ``answer`` is whatever came, so nothing of it is sure."""
        try:
            choice = answer.choices[0]
            message = choice.message
            content = message.content
        except (AttributeError, LookupError, TypeError):
            said = answer if isinstance(answer, str) else getattr(answer, "error", None)
            raise ValueError(f"no choice in it: {_said(said) if said else answer}") from None
        text = _text(content)
        finish = getattr(choice, "finish_reason", None)
        refusal = getattr(message, "refusal", None)
        if finish == "content_filter" or (refusal and not text):
            text = text or (refusal if isinstance(refusal, str) else "")
            status: Any = "refused"
        else:
            reasoning = _reasoning(message, text)
            status = judge_status(text or reasoning, cut_off=finish == "length")
            text = reasoning + text
        usage = getattr(answer, "usage", None)
        return complete(
            question,
            number,
            text,
            status,
            prompt_tokens=_count(usage, "prompt_tokens"),
            completion_tokens=_count(usage, "completion_tokens"),
        )

    def _no_answer(self, error: Exception) -> "Failed":
        """What a time-out or a broken connection means."""
        cause = error.__cause__
        # By name: which library the client stands on differs between its versions.
        if type(cause).__name__ in ("ConnectError", "ConnectTimeout"):
            why = (
                self._line(_root(error))
                if str(cause)
                else f"no connection within {self._connect:g} s"
            )
            return Failed(f"it cannot be reached ({why})", reached=False)
        if isinstance(error, TimeoutError | openai.APITimeoutError):
            return Failed(f"no answer within {self.timeout:g} s")
        return Failed(f"the connection broke: {self._line(_root(error))}")

    def _bad_status(self, error: openai.APIStatusError) -> "Failed | UserError":
        """What a status means: another attempt, none, or the end of all."""
        said = self._line(_said(error.body or error.message))
        end = {
            401: "refuses the key; set OPENAI_API_KEY",
            402: "wants to be paid first",
            403: "forbids this; look at what the key may do",
            404: f"does not know model {self.model!r}, or OPENAI_BASE_URL is not its address",
        }.get(error.status_code)
        if error.code == "insufficient_quota":
            end = "wants to be paid first"
        if end is not None:
            return self._error(f" {end}", said)
        wish = _wish(error.response.headers)
        passing = error.status_code in (408, 409, 429) or error.status_code >= 500
        return Failed(
            f"status {error.status_code}: {said}",
            again=passing and wish <= _LONGEST_WISH,
            wish=wish,
        )

    def _error(self, what: str, said: str) -> UserError:
        return UserError(
            f"endpoint {self.place}{what} ({said}); the same command goes on when that is mended"
        )

    def _line(self, text: object) -> str:
        """A short line without the key, which some endpoints repeat, and without control codes."""
        line = " ".join(str(text).split()) or type(text).__name__
        short = line.replace(self._key, "***")[:200]
        return "".join(letter if letter.isprintable() else "\ufffd" for letter in short)


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


def _read_environment() -> tuple[str, str]:
    """Base URL and key."""
    base, key = (os.environ.get(name, "").strip() for name in ("OPENAI_BASE_URL", "OPENAI_API_KEY"))
    try:
        parts = urlsplit(base or _OPENAI)
        whole = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number
        whole = False
    if not whole:
        raise UserError(f"OPENAI_BASE_URL {base!r}: give an address such as http://host:8000/v1")
    if not key and not base:
        raise UserError(
            "no OPENAI_API_KEY in the environment; set it, and OPENAI_BASE_URL for another "
            "endpoint than OpenAI's, such as http://localhost:8000/v1 for vLLM"
        )
    if not (key.isascii() and key.isprintable()):  # the client would repeat it in its error
        raise UserError("OPENAI_API_KEY holds a character that no key has; copy it again")
    # Servers of one's own seldom ask for a key, but the client wants one.
    return base or _OPENAI, key or "no-key-given"


def _elsewhere(completions: Generator[Completion, None, None]) -> Iterator[Completion]:
    """The same, made in a thread of their own."""
    with ThreadPoolExecutor(1) as thread:
        try:
            while (done := thread.submit(next, completions, None).result()) is not None:
                yield done
        finally:
            thread.submit(completions.close).result()


def _text(content: object) -> str:
    """The text of a message, which some servers hand over in parts; raises a ValueError."""
    if content is None:
        return ""
    texts = []
    for part in content if isinstance(content, list) else [{"type": "text", "text": content}]:
        text = part.get("text") if isinstance(part, Mapping) and part.get("type") == "text" else 0
        if not isinstance(text, str):
            raise ValueError(f"content is {content!r}")
        texts.append(text)
    return "".join(texts)


def _reasoning(message: Any, text: str) -> str:
    """The think block of what a model handed over apart, unless it is in the text."""
    for name in ("reasoning_content", "reasoning"):
        reasoning = getattr(message, name, None)
        if isinstance(reasoning, str) and reasoning and "<think>" not in text:
            return f"<think>{reasoning}</think>"
    return ""


def _wish(headers: Mapping[str, str]) -> float:
    """After how many seconds the endpoint wants to be asked again; 0 where it does not say."""
    with suppress(ValueError):
        wish = float(headers.get("retry-after", ""))
        return wish if wish > 0 else 0.0
    return 0.0


def _is_refusal(error: openai.APIStatusError) -> bool:
    """Whether a filter of the provider's turned the question down."""
    return error.status_code in (400, 403) and any(
        word in f"{error.code} {error.body}" for word in ("content_filter", "content_policy")
    )


def _said(body: object) -> str:
    """What the endpoint says of its error, out of the forms that servers give it."""
    for name in ("error", "message"):
        if isinstance(body, Mapping):
            body = body.get(name, body)
    return body if isinstance(body, str) else json.dumps(body, default=str)


def _root(error: BaseException) -> BaseException:
    """The first cause."""
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    return error


def _count(usage: Any, name: str) -> int:
    value = getattr(usage, name, None)
    return value if type(value) is int and 0 <= value <= _MOST_TOKENS else 0
