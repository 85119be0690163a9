"""TVR as a task of lmms-eval: the functions that the files of ``star-r1 export lmms-eval`` name.

lmms-eval calls them with a row of ``data.export_lmms_eval.FEATURES``.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from star_r1.data.dataset import row_to_sample
from star_r1.evaluate.one_row import row_values
from star_r1.metrics import group_views

__all__ = ["aggregate", "doc_to_messages", "doc_to_text", "doc_to_visual", "process_results"]

SPLITS: Final = ("id", "ood")
"""The groups of which the task shows TAcc beside the overall metrics."""


def doc_to_visual(doc: Mapping[str, Any]) -> list[Any]:
    """The initial and the final picture, RGB."""
    return [doc[name].convert("RGB") for name in ("image_initial", "image_final")]


def doc_to_text(doc: Mapping[str, Any], lmms_eval_specific_kwargs: Any = None) -> str:
    """What models without a chat format are asked, after the pictures."""
    return f"{doc['instruction']}\n{doc['question']}"


def doc_to_messages(
    doc: Mapping[str, Any], lmms_eval_specific_kwargs: Any = None
) -> list[dict[str, Any]]:
    """The conversation of ``tvr.prompt.build_prompt``, with the pictures in it."""
    return [
        {"role": "system", "content": [{"type": "text", "text": doc["instruction"]}]},
        {
            "role": "user",
            "content": [
                *({"type": "image", "url": picture} for picture in doc_to_visual(doc)),
                {"type": "text", "text": doc["question"]},
            ],
        },
    ]


def process_results(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, float | None]:
    """What a row adds to each metric of ``metrics.score``, and to TAcc in and out of domain.

    Args:
        doc: the row; its pictures are not needed.
        results: its completion, in a list. With ``--repeats`` lmms-eval takes the first of several
            by default (0.7.3).

    Returns:
        metric -> value, None where the metric leaves the row out.
    """
    sample = row_to_sample(doc)
    values = row_values(results, sample)
    groups = group_views([sample.view])
    split = {f"tacc_{group}": sample.view in groups[group] for group in SPLITS}
    return values | {name: values["tacc"] if there else None for name, there in split.items()}


def aggregate(values: Sequence[float | None]) -> float | None:
    """The metric of what rows add to it; None where there are none."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
