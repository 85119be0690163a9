"""Crews beside this process; that they leave no trace in the bytes is tested in test_build.py."""

import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from star_r1.data.build import build
from star_r1.data.settings import Settings
from star_r1.data.workers import open_pool
from star_r1.errors import UserError
from star_r1.tvr import SceneRules
from star_r1.tvr.vocabulary import Vocabulary

BIG = Vocabulary(sizes={"big": 1.4, "bigger": 1.5})
CROWDED = Settings(1, 0, rules=SceneRules((10, 10), (1, 1), BIG))
"""No table has room for this."""
SMALL = {"seed": 3, "size": (56, 42), "samples_per_pixel": 2, "views": ("left",)}


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_of_a_worker_is_told(tmp_path: Path, workers: int) -> None:
    with pytest.raises(UserError, match=r"^sample 0 of seed 0: no 1 clearly visible changes"):
        build(tmp_path / "set", [CROWDED], workers)


def test_without_ray(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"--ray needs Ray, .* pip install 'star-r1\[.*ray\]'"):
        build(tmp_path / "set", [Settings(1, 0)], ray="auto")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two nodes of one processor each."""
    utilities = pytest.importorskip("ray.cluster_utils")
    node = {"num_cpus": 1, "object_store_memory": 200 * 2**20, "include_dashboard": False}
    cluster = utilities.Cluster(initialize_head=True, head_node_args=node)
    cluster.add_node(**node)
    yield cluster
    cluster.shutdown()


@pytest.mark.ray
def test_no_cluster_there(cluster: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^--ray 127.0.0.1:9: no cluster there \(.*\); start one"):
        build(tmp_path / "set", [Settings(1, 0)], ray="127.0.0.1:9")


@pytest.mark.ray
def test_an_error_on_the_cluster_is_told(cluster: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^sample 0 of seed 0: no 1 clearly visible [^\n]*$"):
        build(tmp_path / "set", [CROWDED], ray=cluster.address)


@pytest.mark.ray
def test_a_lost_machine_leaves_no_trace(
    cluster: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A node is killed while it works: its shards are made again on the other one."""
    splits = [Settings(24, **SMALL)]
    build(tmp_path / "straight", splits)
    out = tmp_path / "set"

    def kill() -> None:
        while not list(out.glob("data/*.parquet")):
            time.sleep(0.02)
        cluster.remove_node(cluster.worker_nodes.copy().pop(), allow_graceful=False)

    killer = Thread(target=kill)
    killer.start()
    assert build(out, splits, ray=cluster.address).made == 24
    killer.join()
    assert capfd.readouterr().out == ""
    assert {p.name: p.read_bytes() for p in out.rglob("*.*") if p.is_file()} == {
        p.name: p.read_bytes() for p in (tmp_path / "straight").rglob("*.*") if p.is_file()
    }


def test_ctrl_c_does_not_reach_processes_that_are_being_started() -> None:
    """Nor those that work, which ignore it; the thread that started them gets it as before."""
    with open_pool(2) as pool:
        blocked = [pool.submit(signal.pthread_sigmask, signal.SIG_BLOCK, ()) for _ in range(4)]
        assert all(signal.SIGINT in one.result() for one in blocked)
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())
