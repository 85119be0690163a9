"""A small network that names color, shape, size and material of the object in a crop."""

from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from fidelity.crops import PIXELS, Crops
from star_r1.tvr.vocabulary import ATTRIBUTES, VALUES

SHIFT: Final = 4
"""Training crops are moved by up to half as many pixels each way, tests look at the middle."""
EPOCHS: Final = 12
BATCH: Final = 64
LEARNING_RATE: Final = 3e-3
"""Chosen, like the rest here, on held-out renders of ours, never on real pictures."""


class Classifier(nn.Module):
    """Four convolutions, one hidden layer, and one head for each attribute."""

    def __init__(self) -> None:
        """Make it with random weights."""
        super().__init__()

        def stage(before: int, after: int, kernel: int, stride: int) -> list[nn.Module]:
            return [
                nn.Conv2d(before, after, kernel, stride, kernel // 2, bias=False),
                nn.BatchNorm2d(after),
                nn.ReLU(),
            ]

        side = (PIXELS - SHIFT) // 8
        self.body = nn.Sequential(
            *stage(3, 24, 5, 2),
            *stage(24, 40, 3, 1),
            nn.MaxPool2d(2),
            *stage(40, 64, 3, 1),
            nn.MaxPool2d(2),
            *stage(64, 64, 3, 1),
            nn.Flatten(),
            nn.Linear(64 * side * side, 96),
            nn.ReLU(),
        )
        self.heads = nn.Linear(96, sum(len(VALUES[a]) for a in ATTRIBUTES))

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """Logits of each of ``ATTRIBUTES`` for crops, uint8 (n, 3, side, side)."""
        logits = self.heads(self.body(pixels.float() / 127.5 - 1))
        return list(torch.split(logits, [len(VALUES[a]) for a in ATTRIBUTES], dim=1))


def train(crops: Crops, seed: int) -> Classifier:
    """Train on crops; the same crops and seed give the same classifier."""
    torch.manual_seed(seed)
    random = np.random.default_rng(seed)
    model = Classifier()
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # a quarter faster
    pixels, labels = torch.from_numpy(crops.pixels), torch.from_numpy(crops.labels)
    steps = -(-len(pixels) // BATCH) * EPOCHS
    optimizer = torch.optim.AdamW(model.parameters(), LEARNING_RATE, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, steps)
    model.train()
    for _ in range(EPOCHS):
        order = torch.from_numpy(random.permutation(len(pixels)))
        for batch in torch.split(order, BATCH):
            logits = model(_shifted(pixels[batch], random))
            pairs = zip(logits, labels[batch].T, strict=True)
            loss = torch.stack([cross_entropy(*pair) for pair in pairs]).sum()
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            schedule.step()
    return model.eval()


@torch.no_grad()
def predict(model: Classifier, crops: Crops) -> NDArray[np.int64]:
    """The index of the likeliest value of each of ``ATTRIBUTES``, shape (n, 4)."""
    edge, side = SHIFT // 2, PIXELS - SHIFT
    middle = torch.from_numpy(crops.pixels)[..., edge : edge + side, edge : edge + side]
    batches = torch.split(middle, 256)
    found = [torch.stack([part.argmax(1) for part in model(batch)], 1) for batch in batches]
    return torch.cat(found).numpy()


def _shifted(pixels: Tensor, random: np.random.Generator) -> Tensor:
    """Each crop cut to its inner side, at a random place."""
    side = PIXELS - SHIFT
    corners = random.integers(0, SHIFT + 1, (len(pixels), 2)).tolist()
    cuts = [
        crop[:, row : row + side, column : column + side]
        for crop, (row, column) in zip(pixels, corners, strict=True)
    ]
    return torch.stack(cuts)
