"""Questions in flight at an endpoint: many at once, each with its attempts, until Ctrl-C."""

import asyncio
import random
import signal
import sys
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Final, Protocol

from star_r1.errors import UserError
from star_r1.evaluate.predictions import Completion
from star_r1.evaluate.predictor import Question

_FIRST_PAUSE: Final = 0.5
_LONGEST_PAUSE: Final = 32.0
_WAITING: Final = "interrupted: waiting for the answers under way; Ctrl-C again drops them"


class Asked(Protocol):
    """What is asked: an endpoint."""

    concurrency: int
    retries: int

    @property
    def place(self) -> str:
        """Its address, for messages."""

    def open(self) -> Any:
        """The client; it belongs to the event loop that is running."""

    def encode(self, question: Question) -> list[Any]:
        """The messages of a question, as they are sent."""

    async def attempt(
        self, client: Any, messages: list[Any], question: Question, number: int
    ) -> Completion:
        """Ask once; raises ``Failed``, or a UserError where nothing more need be asked."""


class Failed(Exception):
    """An attempt that brought no answer."""

    def __init__(
        self, why: str, *, again: bool = True, wish: float = 0.0, reached: bool = True
    ) -> None:
        """``again``: another attempt may help, in ``wish`` seconds if that is above 0."""
        super().__init__(why)
        self.again, self.wish, self.reached = again, wish, reached


class Crew:
    """Questions in flight on one event loop, each with its attempts."""

    def __init__(self, endpoint: Asked, waiting: Iterator[tuple[Question, int]]) -> None:
        """``waiting``: what is to be asked, with the number of the completion."""
        self.endpoint, self.waiting = endpoint, waiting
        self.flying: set[asyncio.Task[Completion | None]] = set()
        self.finished: deque[Completion] = deque()
        self.stopping = asyncio.Event()
        # One at a time, so that those in flight get their turn before their time is out.
        self.encoding = asyncio.Lock()
        self.reason: BaseException | None = None
        self.reached = False
        self.told: set[str] = set()

    def watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Let the first Ctrl-C stop the crew: by itself it would interrupt a write as well."""
        if (
            threading.current_thread() is threading.main_thread()
            and signal.getsignal(signal.SIGINT) is signal.default_int_handler
        ):
            # The loops of Windows take no handlers: there the first Ctrl-C drops what is in flight.
            with suppress(NotImplementedError):
                loop.add_signal_handler(signal.SIGINT, self._interrupt, loop)

    def _interrupt(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.remove_signal_handler(signal.SIGINT)
        print(_WAITING, file=sys.stderr)
        self.stop(KeyboardInterrupt())

    async def start(self) -> None:
        """Open the client, in the event loop that is running."""
        self.client = self.endpoint.open()

    def stop(self, reason: BaseException) -> None:
        """Ask nothing more, and let what is in flight end."""
        self.reason = self.reason or reason
        self.stopping.set()

    async def next(self) -> Completion | None:
        """The next completion that is finished; None after the last."""
        while not self.finished:
            while len(self.flying) < self.endpoint.concurrency and self.reason is None:
                if (asked := next(self.waiting, None)) is None:
                    break
                self.flying.add(asyncio.create_task(self._answer(*asked)))
            if not self.flying:
                return None
            landed, self.flying = await asyncio.wait(
                self.flying, return_when=asyncio.FIRST_COMPLETED
            )
            for task in landed:
                if (error := task.exception()) is not None:
                    self.stop(error)
                elif (completion := task.result()) is not None:
                    self.finished.append(completion)
        return self.finished.popleft()

    async def close(self) -> None:
        """Drop what is still in flight."""
        for task in self.flying:
            task.cancel()
        await asyncio.gather(*self.flying, return_exceptions=True)
        await self.client.close()

    async def _answer(self, question: Question, number: int) -> Completion | None:
        """The completion, failed after the last attempt; None where the crew stops before that."""
        endpoint = self.endpoint
        async with self.encoding:
            messages = endpoint.encode(question)
        attempt = 0
        while self.reason is None:
            attempt += 1
            try:
                done = await endpoint.attempt(self.client, messages, question, number)
                self.reached = True
                return done
            except Failed as failed:
                self.reached |= failed.reached
                last = not failed.again or attempt > endpoint.retries
                if not self.reached and (last or attempt == 2):
                    raise _unreachable(endpoint, failed) from None
                if last:
                    tried = f" ({attempt} attempts)" if attempt > 1 else ""
                    return complete(question, number, "", "failed", error=f"{failed}{tried}")
                self._tell(str(failed))
                await self._rest(failed.wish or _pause(attempt))
        return None

    def _tell(self, why: str) -> None:
        """Say once of each kind what goes wrong, since the bar stands still meanwhile."""
        kind = why.partition(":")[0]
        if kind not in self.told:
            self.told.add(kind)
            print(f"endpoint {self.endpoint.place}: {why}; trying again", file=sys.stderr)

    async def _rest(self, seconds: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self.stopping.wait(), seconds)


def complete(question: Question, number: int, text: str, status: Any, **more: Any) -> Completion:
    """The completion of a question."""
    return Completion(question.id, text, number, status, question.key, **more)


def _unreachable(endpoint: Asked, failed: Failed) -> UserError:
    return UserError(
        f"endpoint {endpoint.place}: {failed}; start it, or set OPENAI_BASE_URL; "
        "the same command goes on then"
    )


def _pause(attempt: int) -> float:
    """Seconds after the n-th attempt, from 1; not all clients shall come back at once."""
    pause = min(_FIRST_PAUSE * 2.0 ** min(attempt - 1, 10), _LONGEST_PAUSE)
    return pause * random.uniform(0.75, 1)
