"""Which solved samples a few-shot prompt shows: few, unlike one another, none that is asked."""

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from star_r1.data.dataset import SAMPLE_COLUMNS, read_columns, read_row, row_to_sample
from star_r1.errors import UserError
from star_r1.tvr.sample import Sample


def choose_examples(
    data: Path, k: int, seed: int = 0, evaluated: Path | None = None
) -> list[dict[str, Any]]:
    """Choose ``k`` rows of a dataset, each a scene of its own.

    One after the other, each is the row whose number of changes, then whose changed attributes,
    number of visible objects and view have been shown least so far; chance decides among equals.
    So fewer examples are the first ones of more.

    Args:
        data: a dataset folder, such as the split ``train``.
        k: how many, zero or more.
        seed: of chance; the same seed and data give the same rows.
        evaluated: the dataset that is asked. No scene of it is shown, from whatever view, and only
            rows of its vocabulary are.

    Returns:
        Rows as ``data.dataset.read_row`` gives them, pictures decoded.

    Raises:
        UserError: a dataset is missing or damaged, ``k`` is negative, or there are fewer than ``k``
            such scenes.
    """
    if k < 0:
        raise UserError(f"{k} examples: give a number of 0 or more")
    if k == 0:
        return []
    candidates = list(_candidates(data, evaluated))
    scenes = len({candidate.scene for candidate in candidates})
    if scenes < k:
        but = f" that are not in {evaluated} and have its vocabulary" if evaluated else ""
        raise UserError(
            f"{data}: {scenes} scenes{but}, too few for {k} examples; name another dataset or "
            "split, such as train"
        )
    return [_read(data, chosen.id) for chosen in _spread(candidates, k, seed)]


def _read(data: Path, id: str) -> dict[str, Any]:
    try:
        return read_row(data, id)
    except UserError as error:
        raise UserError(f"{data}: {error}, or give another seed") from None


_Trait: TypeAlias = tuple[str, int | str]


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A row that may be shown: its id, a fingerprint of its scene, and how it may differ."""

    id: str
    scene: bytes
    traits: tuple[tuple[_Trait, ...], ...]


def _candidates(data: Path, evaluated: Path | None) -> Iterator[_Candidate]:
    asked, vocabularies = set(), set()
    if evaluated is not None:
        for row in read_columns(evaluated, ["initial", "vocabulary"]):
            asked.add(_digest(row["initial"]))
            vocabularies.add(row["vocabulary"])
    traits: dict[tuple[tuple[_Trait, ...], ...], tuple[tuple[_Trait, ...], ...]] = {}
    for row in read_columns(data, SAMPLE_COLUMNS):
        scene = _digest(row["initial"])
        if scene in asked or (vocabularies and row["vocabulary"] not in vocabularies):
            continue
        sample = row_to_sample(row)
        # Where an attribute changes twice, nothing in the pictures shows what it was in between.
        if len({(c.index, c.attribute) for c in sample.changes}) == len(sample.changes):
            own = _traits(sample)
            yield _Candidate(sample.id, scene, traits.setdefault(own, own))


def _digest(scene: str) -> bytes:
    return hashlib.blake2b(scene.encode(), digest_size=16).digest()


def _spread(candidates: Sequence[_Candidate], k: int, seed: int) -> list[_Candidate]:
    """Choose ``k`` scenes as ``choose_examples`` says."""
    order = np.random.default_rng(seed).permutation(len(candidates))
    left = [candidates[place] for place in order]
    shown: Counter[_Trait] = Counter()
    chosen = []
    for _ in range(k):
        best = min(left, key=lambda one: [_mean([shown[t] for t in trait]) for trait in one.traits])
        shown.update(trait for traits in best.traits for trait in traits)
        left = [one for one in left if one.scene != best.scene]
        chosen.append(best)
    return chosen


def _traits(sample: Sample) -> tuple[tuple[_Trait, ...], ...]:
    """In what samples may differ, what matters most first."""
    attributes = sorted({change.attribute for change in sample.changes})
    return (
        (("changes", len(sample.changes)),),
        tuple(("attribute", attribute) for attribute in attributes),
        (("visible", len(sample.initial.visible)),),
        (("view", sample.view),),
    )


def _mean(counts: Sequence[int]) -> float:
    return sum(counts) / max(len(counts), 1)
