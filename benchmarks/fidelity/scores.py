"""Accuracies with intervals, and what was taken for what."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fidelity.crops import Crops
from star_r1.tvr.vocabulary import ATTRIBUTES, VALUES

RESAMPLES: Final = 2000
COLUMNS: Final = (*ATTRIBUTES, "all four")
SLICES: Final = ("material", "size")
"""Attributes by whose values accuracies on real pictures are split up."""
TOP: Final = 5

Predictions = Sequence[NDArray[np.int64]]
"""Of one classifier a seed: indices of values, shape (n, 4)."""


def correctness(predictions: Predictions, crops: Crops) -> NDArray[np.float64]:
    """Of each crop, attribute and all four at once, how many of the seeds are right, 0-1."""
    right = np.stack([found == crops.labels for found in predictions])
    everything = np.concatenate([right, right.all(2, keepdims=True)], axis=2)
    share: NDArray[np.float64] = everything.mean(0)
    return share


def interval(values: NDArray[np.float64], samples: NDArray[np.int64]) -> list[dict[str, float]]:
    """Mean of each column of ``values``, shape (n, columns), with its 95 % bootstrap interval.

    Whole samples are drawn, since the pictures of one show the same objects.
    """
    groups, group = np.unique(samples, return_inverse=True)
    sums = np.zeros((len(groups), values.shape[1]))
    np.add.at(sums, group, values)
    counts = np.bincount(group)
    random = np.random.default_rng(0)
    drawn = random.multinomial(len(groups), np.full(len(groups), 1 / len(groups)), RESAMPLES)
    means = (drawn @ sums) / (drawn @ counts)[:, None]
    low, high = np.percentile(means, [2.5, 97.5], axis=0)
    return [
        {"mean": round(float(m), 4), "low": round(float(a), 4), "high": round(float(b), 4)}
        for m, a, b in zip(values.mean(0), low, high, strict=True)
    ]


def accuracy(predictions: Predictions, crops: Crops) -> dict[str, Any]:
    """Each of ``COLUMNS`` -> mean over the seeds, its interval, and the figure of each seed."""
    cells = interval(correctness(predictions, crops), crops.samples)
    each = [correctness([found], crops).mean(0).round(4).tolist() for found in predictions]
    return {
        name: {**cell, "seeds": [row[j] for row in each]}
        for j, (name, cell) in enumerate(zip(COLUMNS, cells, strict=True))
    }


def slices(predictions: Predictions, crops: Crops) -> dict[str, Any]:
    """Accuracies and number of crops of each value of ``SLICES``."""
    right = correctness(predictions, crops)
    table: dict[str, Any] = {}
    for attribute in SLICES:
        truth = crops.labels[:, ATTRIBUTES.index(attribute)]
        for index, value in enumerate(VALUES[attribute]):
            chosen = truth == index
            means = right[chosen].mean(0).round(4).tolist()
            table[value] = {"crops": int(chosen.sum()), **dict(zip(COLUMNS, means, strict=True))}
    return table


def confusions(predictions: Predictions, crops: Crops) -> dict[str, list[dict[str, Any]]]:
    """The commonest mistakes of each attribute, with how often a seed makes them."""
    table = {}
    for j, attribute in enumerate(ATTRIBUTES):
        values = VALUES[attribute]
        pairs = Counter(
            (values[truth], values[named])
            for found in predictions
            for truth, named in zip(crops.labels[:, j], found[:, j], strict=True)
            if truth != named
        )
        table[attribute] = [
            {"is": truth, "named": named, "crops": round(times / len(predictions), 1)}
            for (truth, named), times in pairs.most_common(TOP)
        ]
    return table
