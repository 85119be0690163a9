"""A dataset folder -> a task folder of lmms-eval: the rows, a YAML file, and what that names."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from datasets import Features, Image, Value

import star_r1
from star_r1.data.dataset import SAMPLE_COLUMNS
from star_r1.data.export import Exported, as_texts, fingerprint, write_readme
from star_r1.data.export_engines import read_rows, write_parquet
from star_r1.data.intake import claim
from star_r1.files import write_atomic
from star_r1.metrics import ALL_METRICS, COUNTS, METRICS

FEATURES: Final = Features(
    {
        **{column: Value("string") for column in SAMPLE_COLUMNS},
        "instruction": Value("string"),
        "question": Value("string"),
        "answer": Value("string"),
        # Not one list: lmms-eval drops plain columns of pictures where it scores.
        "image_initial": Image(),
        "image_final": Image(),
    }
)
"""Column -> type of test.parquet."""


def export_lmms_eval(data: Path, out: Path, views: Sequence[str] | None = None) -> Exported:
    """Write a dataset as a task of lmms-eval: ``lmms_eval --include_path OUT --tasks tvr``.

    ``test.parquet`` has the rows, ``tvr.yaml`` is the task, and ``utils.py`` hands on the functions
    of ``evaluate.lmms_eval_task``, so that answers are read and scored by the code that
    ``star-r1 evaluate`` uses. Pictures are taken over byte for byte. Every file appears whole; the
    same call goes on after an interruption. Memory holds one shard.

    Args:
        data: dataset folder.
        out: folder; new, empty, or of an interrupted export with the same settings.
        views: only the rows whose final picture is from one of these; None takes all.

    Returns:
        How many samples and rows the task has.

    Raises:
        UserError: ``data`` cannot be read or has no such view, ``out`` holds something else or
            cannot be written.
    """
    settings = {
        "format": "lmms-eval",
        "sha256": fingerprint(data),
        "views": views and list(views),
    }
    claim(out / "export.json", settings, "export", begun=True)
    for old in out.rglob(".*.tmp"):  # of an export that was killed
        old.unlink(missing_ok=True)
    ids: list[str] = []
    attributes: set[str] = set()

    def rows() -> Iterator[Mapping[str, Any]]:
        for row in read_rows(data, views, ids):
            attributes.update(json.loads(row["vocabulary"])["attributes"])
            yield row

    write_parquet(out / "test.parquet", FEATURES, rows(), _convert)
    write_atomic(out / "utils.py", _UTILS)
    write_atomic(out / "tvr.yaml", _yaml("position" in attributes))
    write_readme(out, _ABOUT, data)
    return Exported(len({id.rpartition("-")[0] for id in ids}), len(ids))


def _convert(index: int, row: Mapping[str, Any]) -> dict[str, Any]:
    instruction, question = (message["content"] for message in as_texts(row["prompt"]))
    initial, final = row["images"]
    return {
        **{column: row[column] for column in SAMPLE_COLUMNS},
        "instruction": instruction,
        "question": question.replace("<image>", ""),
        "answer": row["answer"],
        "image_initial": initial,
        "image_final": final,
    }


def _yaml(moves: bool) -> str:
    """The task; one metric more where objects move."""
    names = ALL_METRICS if moves else METRICS
    metrics = "".join(
        f"  - metric: {name}\n    aggregation: !function utils.aggregate\n"
        f"    higher_is_better: {'false' if name in COUNTS else 'true'}\n"
        for name in (*names, "tacc_id", "tacc_ood")
    )
    return f"{_TASK}metric_list:\n{metrics}metadata:\n  version: {star_r1.__version__}\n"


_UTILS: Final = '''\
"""What tvr.yaml names: star-r1 asks, reads the answers and scores them."""

from star_r1.evaluate.lmms_eval_task import (
    aggregate,
    doc_to_messages,
    doc_to_text,
    doc_to_visual,
    process_results,
)

__all__ = ["aggregate", "doc_to_messages", "doc_to_text", "doc_to_visual", "process_results"]
'''

_TASK: Final = """\
# Written by 'star-r1 export lmms-eval'; README.md says how to run it.
task: tvr
dataset_path: parquet
dataset_kwargs:
  data_files:
    test: test.parquet  # beside this file
test_split: test
output_type: generate_until
doc_to_visual: !function utils.doc_to_visual
doc_to_text: !function utils.doc_to_text
doc_to_messages: !function utils.doc_to_messages
doc_to_target: answer
process_results: !function utils.process_results
# An answer inside <think> is read too, as star-r1 does: nothing is cut off before it reads.
reasoning_tags: none
generation_kwargs:
  max_new_tokens: 1024
  temperature: 0
  do_sample: false
  until: []  # where it is missing, completions end at the first empty line
"""

_ABOUT: Final = """\
# A dataset as a task of lmms-eval

    pip install --no-deps PATH_OF_STAR_R1    # beside lmms-eval, 0.7.3 or newer
    python -m lmms_eval --model qwen2_5_vl --model_args pretrained=Qwen/Qwen2.5-VL-7B-Instruct \\
      --include_path THIS_FOLDER --tasks tvr --batch_size 8 --output_path results --log_samples

Not in a folder that holds a file or folder named `tvr`: lmms-eval would take that for the task.

- `test.parquet`: the rows: `id`, `view`, `instruction` (the system message), `question` (the table
  of objects), `answer` (the true changes), `image_initial`, `image_final`; `initial`, `changes`,
  `rig` and `vocabulary` are what scoring needs, as in the card below.
- `tvr.yaml`: the task. Its metrics are the 11 of star-r1, position as a twelfth where objects move,
  over all rows, and `tacc_id`, `tacc_ood`: TAcc of the view that training sees, and of the others.
- `utils.py`: hands on star-r1's own functions, so the numbers are those of `star-r1 evaluate`.

A longer answer: `--gen_kwargs max_new_tokens=4096`.
"""
