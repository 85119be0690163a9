"""Later stages of pretraining: the language model learns its lessons, the vision tower frozen."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from star_r1.model.lessons import Lesson
from star_r1.model.processor import END, IMAGE, START, VISION_END, VISION_START

IGNORE = -100


@dataclass(frozen=True)
class Example:
    """A lesson with the visual tokens of its pictures, each (tokens, hidden)."""

    lesson: Lesson
    features: Sequence[Tensor] = ()


@dataclass(frozen=True)
class Batch:
    """Examples as tensors. B examples, L tokens: ids, labels (B, L), positions (3, B, L).

    ``features`` (visual tokens, hidden) fill the image placeholders in order.
    """

    ids: Tensor
    labels: Tensor
    positions: Tensor
    features: Tensor | None


class Collator:
    """Writes examples as the processor would, for pictures that are all of one grid."""

    def __init__(self, tokenizer: Any, grid: tuple[int, int]) -> None:
        """``grid``: rows and columns of visual tokens of every picture."""
        self.tokenizer = tokenizer
        self.grid = grid
        self.n_tokens = grid[0] * grid[1]
        self.image_id = tokenizer.convert_tokens_to_ids(IMAGE)
        self.pad_id = tokenizer.pad_token_id

    def __call__(self, examples: Sequence[Example]) -> Batch:
        """Pad on the right to the longest; the loss is on what the assistant says."""
        heads = [self.head(e) for e in examples]
        tails = [e.lesson.assistant + END for e in examples]
        head_ids: list[list[int]] = self.tokenizer(heads)["input_ids"]
        tail_ids: list[list[int]] = self.tokenizer(tails)["input_ids"]
        length = max(len(h) + len(t) for h, t in zip(head_ids, tail_ids, strict=True))
        ids = torch.full((len(examples), length), self.pad_id)
        labels = torch.full((len(examples), length), IGNORE)
        positions = torch.zeros((3, len(examples), length), dtype=torch.long)
        for row, (head, tail) in enumerate(zip(head_ids, tail_ids, strict=True)):
            end = len(head) + len(tail)
            ids[row, :end] = torch.tensor(head + tail)
            labels[row, len(head) : end] = torch.tensor(tail)
            positions[:, row] = self._positions(len(examples[row].features), length)
        features = [f for e in examples for f in e.features]
        return Batch(ids, labels, positions, torch.cat(features) if features else None)

    def head(self, example: Example) -> str:
        """What stands before the assistant's first word."""
        pictures = (VISION_START + IMAGE * self.n_tokens + VISION_END) * len(example.features)
        return f"{START}user\n{pictures}{example.lesson.user}{END}\n{START}assistant\n"

    def _positions(self, pictures: int, length: int) -> Tensor:
        """What ``Qwen2_5_VLModel.get_rope_index`` gives (a test compares them)."""
        height, width = self.grid
        at, parts = 4, [torch.arange(4).expand(3, -1)]  # <|im_start|> user \n <|vision_start|>
        for _ in range(pictures):
            rows = torch.arange(height).repeat_interleave(width)
            columns = torch.arange(width).repeat(height)
            parts.append(torch.stack([torch.zeros_like(rows), rows, columns]) + at)
            at += max(height, width)
            parts.append((torch.arange(2) + at).expand(3, -1))  # vision end, start (or text)
            at += 2
        rest = length - sum(p.shape[1] for p in parts)
        parts.append((torch.arange(max(rest, 0)) + at).expand(3, -1))
        return torch.cat(parts, 1)[:, :length]


def loss(model: Any, batch: Batch, image_id: int) -> Tensor:
    """Mean cross-entropy of the assistant's tokens."""
    inner = model.model  # Qwen2_5_VLModel
    embeds = inner.language_model.embed_tokens(batch.ids)
    if batch.features is not None:
        embeds = embeds.masked_scatter((batch.ids == image_id)[..., None], batch.features)
    hidden = inner.language_model(
        inputs_embeds=embeds, position_ids=batch.positions, use_cache=False
    ).last_hidden_state
    wanted = batch.labels[:, 1:] != IGNORE
    logits = model.lm_head(hidden[:, :-1][wanted])
    return functional.cross_entropy(logits, batch.labels[:, 1:][wanted])
