"""Completions of any OpenAI-compatible endpoint, through the official client."""

import asyncio
import base64
import os
import sys
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from typing import Any, Final, Literal, TypeAlias
from urllib.parse import parse_qsl, urlsplit, urlunsplit

import openai
from openai import AsyncOpenAI

from star_r1.errors import UserError
from star_r1.evaluate.flight import Crew, Failed, complete
from star_r1.evaluate.masking import Masking, without_secrets
from star_r1.evaluate.parameters import FLAGS, WITHOUT, Parameters, check_extra
from star_r1.evaluate.predictions import Completion
from star_r1.evaluate.predictor import Question
from star_r1.evaluate.refusals import find_refused, has_code, is_about_rights, is_filtered, say
from star_r1.evaluate.reply import read_answer
from star_r1.evaluate.waits import read_wait
from star_r1.evaluate.wire import Astray, Reply, Unreadable, Wire

Detail: TypeAlias = Literal["auto", "low", "high"]

_OPENAI: Final = "https://api.openai.com/v1"
_CONNECT: Final = 10.0
"""Seconds until a connection must stand, if the time-out is not shorter still."""
_LONGEST_WISH: Final = 120.0
"""Who wants to be asked again later than this is not asked again, as in OpenAI's client."""
_BARRED: Final = 3
"""So many questions that are forbidden without a reason are the key's fault, not theirs."""
_FILTERS: Final = (0, 400, 403, 406, 422, 451)
"""Statuses of filters; others say something else, whatever the words."""
_READ: Final = 4000
"""Characters of what went wrong that are looked at; a line shows the first 200."""
_NO_KEY: Final = "no-key-given"
"""Servers of one's own seldom ask for a key, but the client wants one."""


class Endpoint:
    """A model behind an endpoint that speaks OpenAI's chat completions: vLLM, GPT, Gemini, ...

    Base URL and key come from the environment (``OPENAI_BASE_URL``, ``OPENAI_API_KEY``). An
    attempt that ends in 408, 409, 429, 5xx, a time-out, a broken connection or an answer that
    cannot be read or did not come to its end is made again after a pause: the one that the
    endpoint asks for (``waits.read_wait``), or half a second and then twice as long each time. What
    still fails is a completion with the status ``failed``. A parameter that the endpoint refuses
    is left out. A model that hands over its reasoning apart gets it back as a think block.

    Attributes:
        left_out: names of the parameters that the endpoint refused; what is put in is not sent.
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
        extra_body: Mapping[str, Any] | None = None,
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
            extra_body: more fields of each request, as JSON has them.

        Raises:
            UserError: no model is named, there is no key in the environment, the base URL is none,
                or ``extra_body`` holds what other arguments say, or the key.
        """
        if not model.strip():
            raise UserError("endpoint:NAME: no name; give the model as the endpoint calls it")
        self.model, self.max_new_tokens = model, max_new_tokens
        self.temperature, self.top_p, self.detail = temperature, top_p, detail
        self.concurrency, self.retries, self.timeout = concurrency, retries, timeout
        self._base, self._key = _read_environment()
        self.place = without_secrets(self._base)
        self._masking = Masking("" if self._key == _NO_KEY else self._key, self._base)
        self.extra_body = check_extra(extra_body or {})
        if self._masking.completion(f"{self.extra_body}") != f"{self.extra_body}":
            raise UserError(
                "--extra-body holds the key or a part of OPENAI_BASE_URL, and is recorded; leave "
                "secrets to the environment"
            )
        optional = {
            **({"temperature": temperature} if temperature is not None else {}),
            **({"top_p": top_p} if top_p < 1 else {}),
        }
        self._parameters = Parameters(
            optional, None if temperature == 0 else seed, max_new_tokens, self.extra_body
        )
        self.left_out = self._parameters.left_out

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
            **({"extra_body": dict(self.extra_body)} if self.extra_body else {}),
        }

    @property
    def _connect(self) -> float:
        return min(self.timeout / 2, _CONNECT)

    def predict(self, questions: Iterable[Question]) -> Iterator[Completion]:
        """Answer the questions, ``concurrency`` at a time, as answers come.

        Ctrl-C asks nothing more, hands over what is still being answered (it is paid for), and
        raises KeyboardInterrupt then; a second one does not wait.

        Raises:
            UserError: the endpoint cannot be reached, refuses the key, does not know the model,
                or fails at ``flight.GIVE_UP_AFTER`` questions in a row that did not fail before.
        """
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return self._predict(questions)
        return _elsewhere(self._predict(questions))  # a notebook's loop is running in this thread

    def _predict(self, questions: Iterable[Question]) -> Generator[Completion, None, None]:
        with asyncio.Runner() as runner:
            crew = Crew(self, ((question, n) for question in questions for n in question.numbers))
            crew.watch(runner.get_loop())
            runner.run(crew.start())
            try:
                while (done := runner.run(crew.next())) is not None:
                    yield done
            finally:
                runner.run(crew.close())
        if crew.reason is not None:
            raise crew.reason

    def open(self) -> AsyncOpenAI:
        """The client; it belongs to the event loop that is running."""
        parts = urlsplit(self._base)
        return AsyncOpenAI(
            api_key=self._key,
            # The client would put its path behind the query.
            base_url=urlunsplit(parts._replace(query="", fragment="")),
            default_query=dict(parse_qsl(parts.query, keep_blank_values=True)),
            default_headers={"Accept-Encoding": "identity"},
            timeout=openai.Timeout(self.timeout, connect=self._connect),
            max_retries=0,  # here a whole answer counts as an attempt, see ``flight.Crew``
            http_client=Wire(),
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

        async def post(fields: Mapping[str, Any]) -> Reply:
            return await self._post(client, messages, fields)

        try:
            # The client's own time-out is for each piece of an answer, so a server that drips
            # could go on for ever.
            async with asyncio.timeout(self.timeout):
                reply = await self._parameters.send(post, number, self._tell_left_out)
            if reply.is_answer:
                answer = read_answer(reply.body)
                text = self._masking.completion(answer.text)
                return complete(
                    *(question, number, text, answer.status),
                    prompt_tokens=answer.prompt_tokens,
                    completion_tokens=answer.completion_tokens,
                )
            if reply.status in _FILTERS and is_filtered(reply.body):
                return complete(question, number, "", "refused")
            raise self._bad_status(reply)
        except Failed as failed:
            failed.why = self._line(failed.why)
            raise
        except (TimeoutError, openai.APIConnectionError) as error:
            raise self._no_answer(error) from None
        except Unreadable as error:
            raise Failed(f"the answer is unreadable: {error}", again="never") from None
        except Astray as error:
            place = self._line(without_secrets(f"{error}"))
            raise UserError(
                f"endpoint {self.place} sends us elsewhere; if you trust it, set OPENAI_BASE_URL "
                f"to what stands before /chat/completions in {place}"
            ) from None

    async def _post(
        self, client: AsyncOpenAI, messages: list[Any], fields: Mapping[str, Any]
    ) -> Reply:
        """What comes back, an error or not, as bytes: the client's own reading trusts it."""
        try:
            answer = await client.chat.completions.with_raw_response.create(
                model=self.model, messages=messages, extra_body=fields
            )
        except openai.APIStatusError as error:
            response = error.response
        else:
            response = answer.http_response
        return Reply(response.status_code, response.headers, response.content)

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

    def _bad_status(self, reply: Reply) -> "Failed | UserError":
        """What an error means: another attempt, none, or the end of all."""
        status, said = reply.status, self._line(say(reply.body))
        if has_code(reply.body, "insufficient_quota"):
            status = 402
        fatal = {
            401: "refuses the key; set OPENAI_API_KEY",
            402: "wants to be paid first",
            404: f"does not know model {self.model!r}, or OPENAI_BASE_URL is not its address",
        }.get(404 if status in (405, 410) else status)
        if fatal is not None:
            return self.error(f" {fatal}", said)
        if status == 403:
            # Of this question, unless nothing was answered so far: some filters do not say so.
            end = self.error(" forbids this; look at what the key may do", said)
            many = 1 if is_about_rights(reply.body) else _BARRED
            return Failed(f"status 403: {said}", again="never", end=end, many=many)
        why = f"status {status}: {said}" if status else f"an error came as an answer: {said}"
        wish = read_wait(status, reply.headers, reply.body, say(reply.body))
        if not (status in (0, 408, 409, 425, 429) or status >= 500):
            flag = FLAGS.get(find_refused(reply.body, FLAGS) or "")
            return Failed(f"{why} (see {flag})" if flag else why, again="never")
        if wish > _LONGEST_WISH:
            why += f"; it wants to be asked again in {_span(wish)}, which is too long to wait for"
            return Failed(why, again="never")
        return Failed(why, wish=wish)

    def _tell_left_out(self, name: str, value: Any, refusal: Reply) -> None:
        print(
            f"endpoint {self.place} refuses {name} {value} ({self._line(say(refusal.body))}): left "
            f"out from now on, so {WITHOUT[name]}",
            file=sys.stderr,
        )

    def error(self, what: str, said: str) -> UserError:
        """The end of a run: what the endpoint does, and its words."""
        return UserError(
            f"endpoint {self.place}{what} ({said}); the same command goes on when that is mended"
        )

    def _line(self, text: object) -> str:
        """A short line without secrets, which some endpoints repeat, and without control codes."""
        start = str(text)[:_READ]
        line = " ".join(self._masking.message(start).split()) or type(text).__name__
        return "".join(letter if letter.isprintable() else "\ufffd" for letter in line[:200])


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
        # What is the default need not be said, and some servers do not know it.
        detailed = {} if detail == "auto" else {"detail": detail}
        if not isinstance(content, str):
            content = [
                {"type": "image_url", "image_url": {"url": _data_url(next(left)), **detailed}}
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
        shown = without_secrets(base.rpartition("@")[2])
        raise UserError(f"OPENAI_BASE_URL {shown!r}: give an address such as http://host:8000/v1")
    if not key and not base:
        raise UserError(
            "no OPENAI_API_KEY in the environment; set it, and OPENAI_BASE_URL for another "
            "endpoint than OpenAI's, such as http://localhost:8000/v1 for vLLM"
        )
    if not (key.isascii() and key.isprintable()):  # the client would repeat it in its error
        raise UserError("OPENAI_API_KEY holds a character that no key has; copy it again")
    return base or _OPENAI, key or _NO_KEY


def _elsewhere(completions: Generator[Completion, None, None]) -> Iterator[Completion]:
    """The same, made in a thread of their own."""
    with ThreadPoolExecutor(1) as thread:
        try:
            while (done := thread.submit(next, completions, None).result()) is not None:
                yield done
        finally:
            thread.submit(completions.close).result()


def _span(seconds: float) -> str:
    if seconds > 1e8:
        return "years"
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def _root(error: BaseException) -> BaseException:
    """The first cause."""
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    return error
