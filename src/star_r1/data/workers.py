"""Where samples are made: in this process, in others beside it, or on a Ray cluster."""

import atexit
import contextlib
import multiprocessing
import multiprocessing.synchronize
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

from star_r1.data.samples import make_rows, open_renderer
from star_r1.data.settings import Settings, versions
from star_r1.data.shards import Row
from star_r1.errors import UserError

RETRIES: Final = 10
"""How often a piece of work may be lost with its machine before the build gives up."""
MOST_WORKERS: Final = 1024
"""Processes on one machine."""
_WHOLE_SHARD: Final = 1 << 30

_RAY_DEFAULTS: Final = {
    # Ray would install anew on every machine what a driver started by `uv run` has.
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_NUM_REDIS_GET_RETRIES": "1",  # attempts to reach a cluster, of 40 s each; else 20
}
"""Environment variables that Ray reads when it is imported (2.60)."""


def check_workers(workers: int) -> None:
    """Raise a UserError unless so many processes may be started."""
    if not 1 <= workers <= MOST_WORKERS:
        raise UserError(f"workers {workers}: give a number of 1 to {MOST_WORKERS}")


class Crew(NamedTuple):
    """Those who make samples.

    Attributes:
        submit: has the samples of some indices made, in this or any other process.
        capacity: how many pieces may be under way, so that nobody is idle.
        piece: most samples a piece; none has samples of two shards.
    """

    submit: Callable[[Settings, range], Future[list[Row]]]
    capacity: Callable[[], int]
    piece: int


@contextmanager
def open_crew(workers: int, ray: str | None) -> Iterator[Crew]:
    """The crew of ``build``; within the block its troubles are raised as a UserError."""
    crew = _cluster(ray) if ray is not None else _processes(workers) if workers > 1 else _here()
    with crew as opened:
        yield opened


@contextmanager
def _here() -> Iterator[Crew]:
    """This process, one sample after the other."""

    def submit(settings: Settings, indices: range) -> Future[list[Row]]:
        done: Future[list[Row]] = Future()
        done.set_result(make_rows(settings, indices))
        return done

    try:
        yield Crew(submit, lambda: 1, 1)
    finally:
        open_renderer.cache_clear()


@contextmanager
def _processes(workers: int) -> Iterator[Crew]:
    """So many processes; this one writes what they have encoded."""
    with open_pool(workers) as pool:
        yield Crew(lambda *task: pool.submit(_work, *task), lambda: 3 * workers, 1)


@contextmanager
def open_pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """So many processes of one thread each, which end with this one and with the block.

    Their work should look at ``stopped`` now and then. Raises a UserError where one of them dies.
    """
    context = multiprocessing.get_context("spawn")  # a fork would copy the renderer's threads
    stop = context.Event()
    pool = ProcessPoolExecutor(workers, context, _start_worker, (stop,))
    try:
        _start_all(pool, workers)
        yield pool
    except BrokenProcessPool:
        raise UserError(
            "a worker process died, perhaps for lack of memory; run the same command again "
            "with fewer --workers, finished shards are kept"
        ) from None
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)


def _start_all(pool: ProcessPoolExecutor, workers: int) -> None:
    """Start the processes without Ctrl-C reaching them before they ignore it.

    They are busy with imports for a second or two, and would print tracebacks. A process does not
    receive what the thread that started it blocks.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        for _ in range(workers):
            pool.submit(stopped)  # each starts one, while none is idle
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def stopped() -> bool:
    """In a worker of ``open_pool``: whether nobody waits for its work any more."""
    return _stop is not None and _stop.is_set()


_stop: multiprocessing.synchronize.Event | None = None


def _start_worker(stop: multiprocessing.synchronize.Event) -> None:
    global _stop
    _stop = stop
    # Ctrl-C reaches every process of the terminal; the main one decides what to do about it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Left to the end of the process, the denoiser reports itself as leaked on stderr.
    atexit.register(open_renderer.cache_clear)
    # The main process may be killed with no time to say so: do not outlive it.
    threading.Thread(target=_die_with_parent, daemon=True).start()


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _work(settings: Settings, indices: range) -> list[Row]:
    return [] if stopped() else make_rows(settings, indices)


@contextmanager
def _cluster(address: str) -> Iterator[Crew]:
    """A Ray cluster: a shard a task, whose rows come back to this process.

    So the machines need no folder in common. Ray makes a task again when its machine is lost.
    """
    for name, value in _RAY_DEFAULTS.items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ModuleNotFoundError:
        raise UserError(
            "--ray needs Ray, which is not installed; pip install 'star-r1[data,render,ray]' here "
            "and on every machine of the cluster"
        ) from None
    options: dict[str, Any] = {"include_dashboard": False} if address == "local" else {}
    try:
        _knock(address)
        ray.init(address, log_to_driver=False, logging_level="ERROR", **options)
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(
            f"--ray {address}: no cluster there ({_first_line(error)}); start one with "
            "'ray start --head', or let this command start one here: --ray local"
        ) from None
    # What Ray has to say of a lost machine, pages of it, it prints to stdout.
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
        task = ray.remote(num_cpus=1, max_retries=RETRIES)(_work_afar)

        def submit(settings: Settings, indices: range) -> Future[list[Row]]:
            future: Future[list[Row]] = task.remote(
                settings, indices, versions([settings])
            ).future()
            return future

        try:
            # Asked again each time: machines come and go.
            yield Crew(
                submit, lambda: max(2, 2 * int(ray.cluster_resources().get("CPU", 0))), _WHOLE_SHARD
            )
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, UserError):
                raise error.cause from None
            raise
        except ray.exceptions.RayError as error:
            raise UserError(
                f"the Ray cluster failed ({_first_line(error)}); run the same command again, "
                "finished shards are kept"
            ) from None
        finally:
            ray.shutdown()


def _knock(address: str) -> None:
    """Raise an OSError at once where nothing answers, for which Ray takes a minute."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()


def _work_afar(settings: Settings, indices: range, expected: dict[str, str]) -> list[Row]:
    """On a machine of the cluster."""
    found = versions([settings])
    for name, version in expected.items():
        if found.get(name) != version:
            raise UserError(
                f"a machine of the cluster has {name} {found.get(name)}, this one {version}: "
                "the bytes would differ; install the same versions everywhere"
            )
    return make_rows(settings, indices)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
