"""Questions in flight at an endpoint: many at once, each with its attempts, until Ctrl-C."""

import asyncio
import random
import signal
import sys
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Final, Literal, Protocol, TypeAlias

from star_r1 import interrupts
from star_r1.errors import UserError
from star_r1.evaluate.predictions import Completion
from star_r1.evaluate.predictor import Question

_FIRST_PAUSE: Final = 0.5
_LONGEST_PAUSE: Final = 32.0
GIVE_UP_AFTER: Final = 16
"""So many questions in a row that all failed end the run: then it is the endpoint, not they."""

Again: TypeAlias = Literal["always", "once", "never"]

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

    def error(self, what: str, said: str) -> UserError:
        """The end of a run: what the endpoint does, and its words."""

    async def attempt(
        self, client: Any, messages: list[Any], question: Question, number: int
    ) -> Completion:
        """Ask once; raises ``Failed``, or a UserError where nothing more need be asked."""


class Failed(Exception):
    """An attempt that brought no answer."""

    def __init__(
        self,
        why: str,
        *,
        again: Again = "always",
        wish: float = 0.0,
        reached: bool = True,
        end: UserError | None = None,
        many: int = 1,
    ) -> None:
        """What to do about it.

        Args:
            why: in a line; what stands before the colon is its kind.
            again: whether another attempt may help; ``once``: not if it fails by the same kind.
            wish: seconds until that, if above 0.
            reached: whether the endpoint is there.
            end: of the run, if nothing was answered yet and ``many`` questions failed so; else it
                is a matter of this question.
        """
        super().__init__(why)
        self.why, self.again, self.wish, self.reached = why, again, wish, reached
        self.end, self.many = end, many

    @property
    def kind(self) -> str:
        """What failures have in common."""
        return self.why.partition(":")[0]


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
        self.reached = self.answered = False
        self.barred = 0
        """Questions that failed in a way that may end the run."""
        self.in_a_row = 0
        """Questions that all failed, one after another."""
        self.told: set[str] = set()

    def watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Let the first Ctrl-C stop the crew: by itself it would interrupt a write as well."""
        if threading.current_thread() is threading.main_thread() and signal.getsignal(
            signal.SIGINT
        ) in (signal.default_int_handler, interrupts.handle):
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

    def _count(self, question: Question, done: Completion) -> None:
        """Stop where the endpoint fails at everything; those that failed before tell nothing."""
        if done.status != "failed":
            self.in_a_row = 0
        elif not question.failed:
            self.in_a_row += 1
            if self.in_a_row == GIVE_UP_AFTER:
                why = f": {GIVE_UP_AFTER} questions in a row failed"
                self.stop(self.endpoint.error(why, done.error))

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
        attempt, kind = 0, ""
        while self.reason is None:
            attempt += 1
            try:
                done = await endpoint.attempt(self.client, messages, question, number)
                self.reached = self.answered = True
                self._count(question, done)
                return done
            except Failed as failed:
                self.reached |= failed.reached
                last = (
                    failed.again == "never"
                    or (failed.again == "once" and failed.kind == kind)
                    or attempt > endpoint.retries
                )
                if not self.reached and (last or attempt == 2):
                    raise _unreachable(endpoint, failed) from None
                if last:
                    return self._give_up(question, number, failed, attempt)
                kind = failed.kind
                self._tell(failed)
                await self._rest(failed.wish or _pause(attempt))
        return None

    def _give_up(
        self, question: Question, number: int, failed: Failed, attempts: int
    ) -> Completion:
        """The completion of a question that failed at last."""
        if failed.end is not None and not question.failed and not self.answered:
            self.barred += 1
            if self.barred >= failed.many:
                self.stop(failed.end)
        tried = f" ({attempts} attempts)" if attempts > 1 else ""
        done = complete(question, number, "", "failed", error=f"{failed.why}{tried}")
        self._count(question, done)
        return done

    def _tell(self, failed: Failed) -> None:
        """Say once of each kind what goes wrong, since the bar stands still meanwhile."""
        if failed.kind not in self.told:
            self.told.add(failed.kind)
            print(f"endpoint {self.endpoint.place}: {failed.why}; trying again", file=sys.stderr)

    async def _rest(self, seconds: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self.stopping.wait(), seconds)


def complete(question: Question, number: int, text: str, status: Any, **more: Any) -> Completion:
    """The completion of a question."""
    return Completion(question.id, text, number, status, question.key, **more)


def _unreachable(endpoint: Asked, failed: Failed) -> UserError:
    return UserError(
        f"endpoint {endpoint.place}: {failed.why}; start it, or set OPENAI_BASE_URL; "
        "the same command goes on then"
    )


def _pause(attempt: int) -> float:
    """Seconds after the n-th attempt, from 1; not all clients shall come back at once."""
    pause = min(_FIRST_PAUSE * 2.0 ** min(attempt - 1, 10), _LONGEST_PAUSE)
    return pause * random.uniform(0.75, 1)
