"""A dataset folder -> what verl, EasyR1 and ms-swift train on, with the script that starts it."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Features, Image, List, Value

from star_r1.data.dataset import FEATURES, count_rows, read_columns, row_to_sample, shards
from star_r1.data.export import (
    Exported,
    as_texts,
    fingerprint,
    picture_names,
    save_pair,
    write_readme,
)
from star_r1.data.intake import claim
from star_r1.data.pictures import plain_files
from star_r1.errors import UserError
from star_r1.files import growing, write_atomic
from star_r1.progress import progress
from star_r1.reward.adapters.truth import pack

ROW_GROUP: Final = 64
"""Rows in a row group: what writing and reading hold in memory at once."""

VERL_FEATURES: Final = Features(
    {
        "data_source": Value("string"),
        "prompt": List({"role": Value("string"), "content": Value("string")}),
        "images": List(Image()),
        "ability": Value("string"),
        "reward_model": {"style": Value("string"), "ground_truth": Value("string")},
        "extra_info": {
            "split": Value("string"),
            "index": Value("int64"),
            "id": Value("string"),
            "view": Value("string"),
            "answer": Value("string"),
        },
    }
)
"""What verl's ``RLHFDataset`` and reward managers look for (0.9.1)."""

EASYR1_FEATURES: Final = Features(
    {
        "problem": Value("string"),
        "images": List(Image()),
        "answer": Value("string"),
        "id": Value("string"),
        "view": Value("string"),
    }
)

Rows: TypeAlias = Iterable[Mapping[str, Any]]


def export_engine(
    engine: str,
    data: Path,
    out: Path,
    views: Sequence[str] | None = None,
    val: Path | None = None,
) -> Exported:
    """Write a dataset as another training engine reads it, and ``run.sh``, which trains there.

    ``verl``: ``train.parquet`` and ``val.parquet`` with its columns; ``data_source`` is
    ``tvr-<view>``, so that it reports every view by itself. ``easyr1``: the same with the columns
    of its examples. ``ms-swift``: JSON lines and pictures, and the plugin with the reward.

    Each carries in one text what the reward needs (``truth.pack``), moves and other vocabularies
    included. Pictures are taken over byte for byte. Every file appears whole; the same call goes
    on after an interruption. Memory holds one shard.

    Args:
        engine: one of ``ENGINES``.
        data: dataset folder to train on.
        out: folder; new, empty, or of an interrupted export with the same settings.
        views: train only on rows whose final picture is from one of these; None takes all.
        val: dataset folder to validate on, all its views; None for none.

    Returns:
        How many samples and rows there are to train on.

    Raises:
        UserError: ``data`` or ``val`` cannot be read, ``out`` holds something else or cannot be
            written.
    """
    if engine not in ENGINES:
        raise UserError(f"engine {engine!r}: choose from {', '.join(ENGINES)}")
    form = ENGINES[engine]
    settings = {
        "format": engine,
        "sha256": fingerprint(data),
        "views": views and list(views),
        "val_sha256": val and fingerprint(val),
    }
    claim(out / "export.json", settings, "export", begun=True)
    for old in out.rglob(".*.tmp"):  # of an export that was killed
        old.unlink(missing_ok=True)
    counted: list[str] = []
    form.write(out, "train", read_rows(data, views, counted))
    if val is not None:
        form.write(out, "val", read_rows(val, None, []))
    script = Path(__file__).parent / "launch" / f"{engine}.sh"
    write_atomic(out / "run.sh", script.read_bytes())
    for name, text in form.files.items():
        write_atomic(out / name, text)
    write_readme(out, form.about, data)
    return Exported(len({name.rpartition("-")[0] for name in counted}), len(counted))


def read_rows(data: Path, views: Sequence[str] | None, ids: list[str]) -> Iterator[dict[str, Any]]:
    """The rows with one of ``views``, whose ids are appended to ``ids``; pictures for any program.

    Raises:
        UserError: a row is none, or its pictures cannot be used.
    """
    total = sum(count_rows(path) or 0 for path in shards(data))
    with progress("Exporting", total, unit="rows") as advance:
        for row in read_columns(data, list(FEATURES)):
            if not views or row["view"] in views:
                ids.append(row["id"])
                row_to_sample(row)  # else the reward would meet what is wrong with it
                files = [content for content, _ in plain_files(row)]
                yield row | {"images": [{"bytes": content, "path": None} for content in files]}
            advance(1)
    if not ids:
        raise UserError(f"{data}: no row has one of the views {','.join(views or ())}")


def _write_verl(out: Path, split: str, rows: Rows) -> None:
    def convert(index: int, row: Mapping[str, Any]) -> dict[str, Any]:
        extra = {name: row[name] for name in ("id", "view", "answer")}
        return {
            "data_source": f"tvr-{row['view']}",
            "prompt": as_texts(row["prompt"]),
            "images": row["images"],
            "ability": "visual_reasoning",
            "reward_model": {"style": "rule", "ground_truth": pack(row)},
            "extra_info": {"split": split, "index": index, **extra},
        }

    write_parquet(out / f"{split}.parquet", VERL_FEATURES, rows, convert)


def _write_easyr1(out: Path, split: str, rows: Rows) -> None:
    def convert(index: int, row: Mapping[str, Any]) -> dict[str, Any]:
        instruction, question = (message["content"] for message in as_texts(row["prompt"]))
        return {
            # EasyR1 makes one user message of it: there is no place for a system message.
            "problem": f"{instruction}\n{question}",
            "images": row["images"],
            "answer": pack(row),
            "id": row["id"],
            "view": row["view"],
        }

    write_parquet(out / f"{split}.parquet", EASYR1_FEATURES, rows, convert)


def _write_ms_swift(out: Path, split: str, rows: Rows) -> None:
    with growing(out / f"{split}.jsonl") as file:
        for row in rows:
            images = picture_names(row["id"], f"image/{split}")
            line = {
                "id": row["id"],
                "messages": as_texts(row["prompt"]),
                "images": images,
                "ground_truth": pack(row),
            }
            file.write(json.dumps(line).encode() + b"\n")
            save_pair(row, [out / path for path in images])


def write_parquet(
    path: Path,
    features: Features,
    rows: Rows,
    convert: Callable[[int, Mapping[str, Any]], dict[str, Any]],
) -> None:
    """A parquet file in row groups of ``ROW_GROUP``; ``convert`` gets each row and its number."""
    schema = features.arrow_schema
    waiting: list[dict[str, Any]] = []
    with growing(path) as file, pq.ParquetWriter(file, schema, compression="zstd") as writer:
        for index, row in enumerate(rows):
            waiting.append(convert(index, row))
            if len(waiting) == ROW_GROUP:
                writer.write_table(pa.Table.from_pylist(waiting, schema))
                waiting = []
        if waiting:
            writer.write_table(pa.Table.from_pylist(waiting, schema))


@dataclass(frozen=True, slots=True)
class Engine:
    """What is written for an engine.

    Attributes:
        write: writes the rows of one split into the folder.
        files: name -> text of what there is besides ``run.sh``.
        about: what ``README.md`` says of the folder.
    """

    write: Callable[[Path, str, Rows], None]
    files: Mapping[str, str]
    about: str


_EASYR1_REWARD: Final = '''\
"""What EasyR1 loads by its path."""

from star_r1.reward.adapters.easyr1 import REWARD_NAME, REWARD_TYPE, compute_score

__all__ = ["REWARD_NAME", "REWARD_TYPE", "compute_score"]
'''

_MS_SWIFT_PLUGIN: Final = '''\
"""What ms-swift loads by --external_plugins: names for --reward_funcs."""

from star_r1.reward.adapters.ms_swift import register

register("star")
# The ablations of the paper, and the rivals.
for tier in ("attribute", "object", "wrong", "missing"):
    register(f"star_without_{tier}", **{tier: 0})
for rival in ("sparse", "count_penalty"):
    register(rival, reward=rival)
'''

_RUN: Final = """\
`run.sh` trains by GRPO with the STAR reward; its head says how, on one node and on several.
Install `star-r1` beside the engine (without its dependencies: the reward needs none). How, and
what was tested: docs/engines.md of star-r1.
"""

_ABOUT_VERL: Final = f"""\
# A dataset as verl reads it

`train.parquet`, and `val.parquet` where there is one. Each row has

- `data_source`: `tvr-<view>`, by which verl groups its validation,
- `prompt`: a system and a user message; `<image>` stands where the pictures go,
- `images`: the initial and the final picture,
- `ability`: `visual_reasoning`,
- `reward_model`: `style`, and `ground_truth`: JSON with `id`, `changes` and `vocabulary`,
- `extra_info`: `split`, `index`, `id`, `view`, `answer`.

{_RUN}"""

_ABOUT_EASYR1: Final = f"""\
# A dataset as EasyR1 reads it

`train.parquet`, and `val.parquet` where there is one. Each row has

- `problem`: instruction and table, `<image>` where the pictures go,
- `images`: the initial and the final picture,
- `answer`: the ground truth, JSON with `id`, `changes` and `vocabulary`,
- `id`, `view`.

{_RUN}"""

_ABOUT_MS_SWIFT: Final = f"""\
# A dataset as ms-swift reads it

`train.jsonl`, and `val.jsonl` where there is one; `image/` the pictures, `plugin.py` the reward.
Each row has

- `id`,
- `messages`: a system and a user message; `<image>` stands where the pictures go,
- `images`: paths of the initial and the final picture, relative to this folder,
- `ground_truth`: JSON with `id`, `changes` and `vocabulary`; a column that the reward gets.

{_RUN}"""

ENGINES: Final[dict[str, Engine]] = {
    "verl": Engine(_write_verl, {}, _ABOUT_VERL),
    "easyr1": Engine(_write_easyr1, {"reward.py": _EASYR1_REWARD}, _ABOUT_EASYR1),
    "ms-swift": Engine(_write_ms_swift, {"plugin.py": _MS_SWIFT_PLUGIN}, _ABOUT_MS_SWIFT),
}
"""Name of an engine -> what is written for it."""
