import numpy as np
import torch

from star_r1.model.align import (
    MIN_PIXELS,
    WORDS,
    alignment_loss,
    cell_targets,
    project,
    read_cells,
)
from star_r1.tvr.scene import Object
from star_r1.tvr.vocabulary import ATTRIBUTES, VALUES

RED = Object(0, "red", "cube", "small", "metal", (0, 0))
BLUE = Object(1, "blue", "sphere", "large", "glass", (5, 0))


def _named(row: np.ndarray) -> set[str]:
    return {WORDS[i].strip() for i in np.flatnonzero(row)}


def test_words_are_the_values_in_order_of_the_attributes() -> None:
    assert [w.strip() for w in WORDS] == [v for a in ATTRIBUTES for v in VALUES[a]]


def test_each_object_has_the_token_with_most_of_its_pixels() -> None:
    mask = np.full((40, 60), 255, np.uint8)  # 2 x 3 tokens of 20 x 20
    mask[0:10, 0:10] = 0
    mask[15:40, 25:60] = 1
    targets = cell_targets(mask, (RED, BLUE), (2, 3))
    assert _named(targets[0]) == {"red", "cube", "small", "metal"}
    assert _named(targets[5]) == {"blue", "sphere", "large", "glass"}
    assert targets.sum() == 8


def test_two_objects_never_share_a_token_and_the_smaller_chooses_first() -> None:
    mask = np.full((40, 60), 255, np.uint8)
    mask[0:20, 0:25] = 1
    mask[2:8, 2:8] = 0
    targets = cell_targets(mask, (RED, BLUE), (2, 3))
    assert "red" in _named(targets[0])
    assert "blue" in _named(targets[1])


def test_an_object_with_few_pixels_is_not_asked_for() -> None:
    mask = np.full((40, 60), 255, np.uint8)
    mask.ravel()[: MIN_PIXELS - 1] = 0
    assert cell_targets(mask, (RED,), (2, 3)).sum() == 0


def test_loss_is_least_where_tokens_hold_their_words() -> None:
    words = torch.eye(17, 32)
    targets = torch.zeros(1, 6, 17)
    targets[0, 0, [1, 8, 11, 15]] = 1
    right = targets @ words
    wrong = right.clone()
    wrong[0, 0] = words[[2, 8, 11, 15]].sum(0)
    outside = right + torch.eye(32)[31]
    best = alignment_loss(right, words, targets)
    assert best < alignment_loss(wrong, words, targets)
    assert best < alignment_loss(outside, words, targets)
    assert read_cells(project(right, words))[0, 0].tolist() == [1, 0, 0, 1]
    assert read_cells(project(wrong, words))[0, 0].tolist() == [2, 0, 0, 1]
