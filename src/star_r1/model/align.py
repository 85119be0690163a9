"""First stage of pretraining: visual tokens learn to hold the words of what they see.

Each object of a picture is given one visual token, and that token is to hold the sum of the
embeddings of the object's four words; all other tokens hold none. The language model then reads
a picture as it reads a list.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from star_r1.tvr.scene import Object
from star_r1.tvr.vocabulary import ATTRIBUTES, VALUES

WORDS = tuple(" " + value for attribute in ATTRIBUTES for value in VALUES[attribute])
"""The 17 words, attribute by attribute, as the tokenizer has them."""
_SLICES = dict(
    zip(
        ATTRIBUTES,
        (slice(a, b) for a, b in ((0, 8), (8, 11), (11, 14), (14, 17))),
        strict=True,
    )
)
MIN_PIXELS = 12
"""Objects with fewer pixels in a 160 x 120 picture are not asked for: they can't be told."""
SHARPNESS = 8.0
"""Logit per unit of projection on a word: 1 reads as present, 0 as absent."""


def cell_targets(
    mask: NDArray[np.uint8], objects: Sequence[Object], grid: tuple[int, int]
) -> NDArray[np.float32]:
    """The words that each visual token is to hold.

    Smaller objects choose first, each the token with most of its pixels among those still free,
    so that two objects never share one.

    Args:
        mask: (H, W) object indices, 255 = background.
        objects: the visible objects.
        grid: rows and columns of visual tokens.

    Returns:
        (rows * columns, 17) of 0 and 1, columns as ``WORDS``.
    """
    rows, columns = grid
    height, width = mask.shape
    tiles = mask.reshape(rows, height // rows, columns, width // columns)
    counts = {o: (tiles == o.index).sum((1, 3)).ravel() for o in objects}
    targets = np.zeros((rows * columns, len(WORDS)), np.float32)
    taken = np.zeros(rows * columns, bool)
    for o in sorted(objects, key=lambda o: int(counts[o].sum())):
        if counts[o].sum() < MIN_PIXELS:
            continue
        cell = int(np.where(taken, -1, counts[o]).argmax())
        taken[cell] = True
        for attribute in ATTRIBUTES:
            targets[cell, WORDS.index(" " + o.attribute(attribute))] = 1
    return targets


def project(features: Tensor, words: Tensor) -> Tensor:
    """How much of each word every visual token holds: (..., hidden), (17, hidden) -> (..., 17)."""
    return features @ words.T / words.square().sum(1)


def alignment_loss(features: Tensor, words: Tensor, targets: Tensor) -> Tensor:
    """Multi-label loss of visual tokens (B, T, hidden) against targets (B, T, 17).

    Each word is asked by itself (present or absent); within a token that holds an object the
    values of an attribute also compete; and what lies outside the words' span is kept small, so
    that the language model meets nothing in a picture that it did not meet in text.
    """
    held = project(features, words)
    logits = SHARPNESS * (held - 0.5)
    present = targets.amax(-1) > 0
    weight = torch.where(present, 1.0, 0.2)[..., None]
    loss = (
        nn.functional.binary_cross_entropy_with_logits(logits, targets, reduction="none") * weight
    ).sum() / weight.sum()
    for part in _SLICES.values():
        loss = loss + 0.25 * nn.functional.cross_entropy(
            logits[present][:, part], targets[present][:, part].argmax(-1)
        )
    outside = features - held @ words
    return loss + 0.05 * outside.square().sum(-1).mean()


def read_cells(held: Tensor) -> Tensor:
    """Values named by each token: (..., 17) -> (..., 4) indices into the values of ATTRIBUTES."""
    return torch.stack([held[..., part].argmax(-1) for part in _SLICES.values()], -1)
