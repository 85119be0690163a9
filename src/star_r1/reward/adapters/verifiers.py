"""A dataset folder as a taskset of Prime Intellect's verifiers: prompts, pictures and the reward.

For verifiers 0.4, whose tasksets took the place of ``SingleTurnEnv`` and ``load_environment``. It
looks a taskset up as a top-level module, so give it one: a file ``star_tvr.py`` with

    from star_r1.reward.adapters.verifiers import StarTaskset
    __all__ = ["StarTaskset"]

Parquet is read directly: the rewards do not lean on ``star_r1.data``.
"""

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import verifiers.v1 as vf

from star_r1.errors import UserError
from star_r1.reward.adapters.score import score
from star_r1.reward.adapters.truth import pack, read_packed
from star_r1.tvr.answer import whole

__all__ = ["StarTaskset"]

_COLUMNS = ("id", "view", "images", "prompt", "changes", "vocabulary")


class StarData(vf.TaskData):  # type: ignore[misc]
    """One question, and ``ground_truth``, what ``truth.pack`` makes of its row."""

    ground_truth: str


class StarTaskConfig(vf.TaskConfig):  # type: ignore[misc]
    """``--env.taskset.task.reward sparse``, ``--env.taskset.task.numbers.object 0``."""

    reward: str = "star"
    numbers: dict[str, float] | None = None


class StarTask(vf.Task[StarData, vf.State, StarTaskConfig]):  # type: ignore[misc]
    """Scores the last reply; the terms are metrics."""

    @vf.reward  # type: ignore[untyped-decorator]
    async def star(self, trace: Any) -> float:
        """What to train on: the reward that the config names."""
        return self._scored(trace)["score"]

    @vf.metric  # type: ignore[untyped-decorator]
    async def terms(self, trace: Any) -> dict[str, float]:
        """Each term, ``right``, ``well_formed`` and ``predictions`` (see ``score.score``)."""
        return {name: value for name, value in self._scored(trace).items() if name != "score"}

    def _scored(self, trace: Any) -> dict[str, float]:
        said, truth = read_packed(_reply(trace), self.data.ground_truth)
        return score(said, truth, self.config.reward, **(self.config.numbers or {}))


class StarTasksetConfig(vf.TasksetConfig):  # type: ignore[misc]
    """``--env.taskset.data DIR --env.taskset.views left``; without views all are taken."""

    data: Path = Path("data")
    views: list[str] | None = None
    task: StarTaskConfig = StarTaskConfig()


class StarTaskset(vf.Taskset[StarTask, StarTasksetConfig]):  # type: ignore[misc]
    """The rows of a dataset folder with one split, in order."""

    def load(self) -> Iterator[StarTask]:
        """One task a row; memory holds one shard.

        Raises:
            UserError: there is no dataset in the folder.
        """
        paths = sorted((self.config.data / "data").glob("*.parquet"))
        if not paths:
            raise UserError(
                f"{self.config.data}: no data/*.parquet in it; "
                "give --env.taskset.data a folder that 'star-r1 generate' wrote"
            )
        for path in paths:
            for row in pq.read_table(path, columns=list(_COLUMNS)).to_pylist():
                if not self.config.views or row["view"] in self.config.views:
                    data = StarData(id=row["id"], prompt=_messages(row), ground_truth=pack(row))
                    yield StarTask(data, self.config.task)


def _reply(trace: Any) -> str:
    """The last reply, with the reasoning that verifiers keeps apart from it (0.4)."""
    text: str = trace.last_reply
    said = (m for m in reversed(trace.assistant_messages) if (m.content or "").strip() == text)
    return whole(text, reasoning=getattr(next(said, None), "reasoning_content", None))


def _messages(row: dict[str, Any]) -> list[dict[str, Any]]:
    """The prompt of a row as OpenAI's chat messages, the pictures in it."""
    pictures = iter(row["images"])
    return [
        {"role": message["role"], "content": [_part(part, pictures) for part in message["content"]]}
        for message in row["prompt"]
    ]


def _part(part: dict[str, Any], pictures: Iterator[dict[str, Any]]) -> dict[str, Any]:
    if part["type"] == "text":
        return {"type": "text", "text": part["text"]}
    picture = base64.b64encode(next(pictures)["bytes"]).decode()
    return {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{picture}"}}
