"""The memory of sampling; what it samples is in tests/invariants/test_shared_prompt.py."""

from types import SimpleNamespace

import torch
from tests.peak import peak_bytes

from star_r1.train.sampling import Columns

LAYERS, PROMPTS, HEADS, TOKENS, SIZE, MANY, ROOM = 8, 4, 2, 10, 16, 3, 20


def test_thinning_out_takes_one_layer_at_a_time() -> None:
    """Half the prompts, two thirds of their completions: a third of the room."""
    kept: list[Columns] = []

    def thin() -> None:
        layers = [
            SimpleNamespace(
                keys=torch.rand(PROMPTS, HEADS, TOKENS, SIZE),
                values=torch.rand(PROMPTS, HEADS, TOKENS, SIZE),
            )
            for _ in range(LAYERS)
        ]
        mask = torch.ones(PROMPTS, TOKENS, dtype=torch.bool)
        columns = Columns(SimpleNamespace(layers=layers), mask, MANY, ROOM)
        del layers
        columns.keep(torch.tensor([0, 2]), torch.tensor([[0, 2], [1, 2]]))
        kept.append(columns)

    of_prompts, of_own = (2 * PROMPTS * HEADS * size * SIZE * 4 for size in (TOKENS, MANY * ROOM))
    small = 1000  # masks and indices
    most = LAYERS * (of_prompts + of_own) + of_own // 3 + small
    assert peak_bytes(thin) <= most
    (columns,) = kept
    assert [tuple(k.shape) for k, _ in columns.prompts] == [(2, HEADS, TOKENS, SIZE)] * LAYERS
    assert [tuple(k.shape) for k, _ in columns.own] == [(2, HEADS, 2, ROOM, SIZE)] * LAYERS
