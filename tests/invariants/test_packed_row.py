"""The packed row computes what each completion alone computes, and so do its gradients."""

import copy
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import peft
import pytest
import torch
from PIL import Image
from tests.tiny import make_tiny
from trl.trainer.utils import add_fused_lm_head

from star_r1.model.loading import load_model, load_processor
from star_r1.train import packed as module
from star_r1.train.packed import pack, share
from star_r1.train.prompts import Prompt, encode, see

FAMILIES = {
    "Qwen2-VL": "Qwen/Qwen2-VL-2B-Instruct",
    "Qwen2.5-VL": "Qwen/Qwen2.5-VL-7B-Instruct",
    "Qwen3-VL": "Qwen/Qwen3-VL-4B-Instruct",
}
LORA = r".*language_model.*(q_proj|v_proj)$"
ROUNDING = 1e-4
"""What float32 may differ by: kernels of different CPUs sum in different orders (up to 3e-5 was
seen). A completion that sees a token too many or too few is off by more than 1e-2."""


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Any, Any]]:
    """Loads a tiny model of a family, with weights that matter, and its processor."""
    folders = {
        family: make_tiny(tmp_path_factory.mktemp("tiny") / family, name)
        for family, name in FAMILIES.items()
    }

    def load(family: str) -> tuple[Any, Any]:
        model = load_model(str(folders[family]))
        with torch.no_grad():  # at its initial size attention hardly matters to what follows
            for parameter in model.model.language_model.layers.parameters():
                parameter.mul_(4)
        return model, load_processor(str(folders[family]), min_pixels=28 * 28)

    return load


class Case:
    """Random prompts of 1 to 3 pictures, and completions of each in random order."""

    def __init__(self, seed: int, model: Any, processor: Any) -> None:
        draw = random.Random(seed)
        noise = np.random.default_rng(seed)
        rows = []
        for _ in range(draw.randint(1, 3)):
            sizes = [(28 * draw.randint(1, 3), 28 * draw.randint(1, 4)) for _ in range(3)]
            pictures = [
                Image.fromarray(noise.integers(0, 256, (*size, 3), dtype=np.uint8))
                for size in sizes[: draw.randint(1, 3)]
            ]
            text = "word " * draw.randint(1, 9)
            parts = [*({"type": "image"} for _ in pictures), {"type": "text", "text": text}]
            rows.append({"prompt": [{"role": "user", "content": parts}], "images": pictures})
        self.prompts: list[Prompt] = encode(rows, model.model, processor)
        group = [n for n in range(len(rows)) for _ in range(draw.randint(1, 4))]
        draw.shuffle(group)
        self.group = torch.tensor(group)
        lengths = [draw.randint(1, 9) for _ in group]
        lengths[draw.randrange(len(group))] = 12
        steps = torch.arange(12)
        self.mask = (steps < torch.tensor(lengths)[:, None]).long()
        letters = noise.integers(33, 126, self.mask.shape)  # a token a byte
        self.ids = torch.from_numpy(letters) * self.mask
        weights = torch.from_numpy(noise.normal(size=self.mask.shape)).float()
        self.weights = weights * self.mask  # what each log-probability counts in the loss

    def packed(self, model: Any) -> torch.Tensor:
        """Log-probabilities (B, C) from the packed row."""
        row = pack(self.prompts, self.group, self.ids, self.mask, model.config.image_token_id)
        output = model(
            prompts=self.prompts, row=row, shift_labels=row.targets[None], fused_lm_head=True
        )
        return row.unpack(output.log_probs, self.ids.shape)

    def one_by_one(self, model: Any) -> torch.Tensor:
        """The same by transformers' own forward, one unpadded sequence at a time."""
        result = []
        for number, ids, mask in zip(self.group.tolist(), self.ids, self.mask.bool(), strict=True):
            prompt = self.prompts[number]
            completion = ids[mask]
            sequence = torch.cat([prompt.input_ids, completion])[None]
            logits = model(
                input_ids=sequence,
                mm_token_type_ids=(sequence == model.config.image_token_id).int(),
                pixel_values=prompt.pixel_values,
                image_grid_thw=prompt.image_grid_thw,
            ).logits[0, len(prompt.input_ids) - 1 : -1]
            found = logits.log_softmax(-1).gather(1, completion[:, None])[:, 0]
            result.append(torch.cat([found, found.new_zeros(len(ids) - len(completion))]))
        return torch.stack(result)


def prepare(model: Any, lora: bool) -> tuple[Any, Any]:
    """The model twice, as it is and with the packed row, each perhaps under the same adapter."""
    plain, packed = model, copy.deepcopy(model)
    add_fused_lm_head(packed)
    share(packed)
    if lora:
        torch.manual_seed(0)
        config = peft.LoraConfig(target_modules=LORA, init_lora_weights=False)
        plain, packed = (peft.get_peft_model(m, copy.deepcopy(config)) for m in (plain, packed))
        packed.load_state_dict(plain.state_dict(), strict=True)
    return plain, packed


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("training", ["full", "full checkpointed", "LoRA", "LoRA checkpointed"])
@pytest.mark.parametrize("family", FAMILIES)
def test_log_probs_and_gradients_equal_those_of_single_sequences(
    family: str, training: str, seed: int, load: Any
) -> None:
    model, processor = load(family)
    case = Case(seed, model, processor)
    plain, packed = prepare(model, "LoRA" in training)
    if "checkpointed" in training:
        packed.activation_checkpointing_enable()
        packed.train()
    found, expected = case.packed(packed), case.one_by_one(plain)
    assert len(expected.detach().unique()) > case.mask.sum() / 2
    torch.testing.assert_close(found, expected, atol=ROUNDING, rtol=0)
    for log_probs in (found, expected):
        (log_probs * case.weights).sum().backward()
    scale = max(p.grad.abs().max() for p in plain.parameters() if p.grad is not None)
    assert scale > 1e-3
    trained = 0
    for (name, ours), theirs in zip(packed.named_parameters(), plain.parameters(), strict=True):
        assert (ours.grad is None) == (theirs.grad is None), name
        if ours.grad is not None:
            trained += 1
            assert (ours.grad - theirs.grad).abs().max() < ROUNDING * scale, name
    assert trained == (8 if "LoRA" in training else len(list(packed.parameters())))


@pytest.mark.parametrize("family", FAMILIES)
def test_features_may_be_computed_before(family: str, load: Any) -> None:
    """What is kept of a frozen vision tower gives the same as looking again."""
    model, processor = load(family)
    case = Case(3, model, processor)
    _, packed = prepare(model, lora=False)
    with torch.no_grad():
        again = case.packed(packed)
        case.prompts = see(case.prompts, packed.model)
        kept = case.packed(packed)
    assert all(prompt.features is not None for prompt in case.prompts)
    assert torch.equal(again, kept)


def test_mixed_precision(load: Any) -> None:
    """Under autocast to bfloat16 the packed row is no further from float32 than plain rows are."""
    model, processor = load("Qwen2.5-VL")
    case = Case(1, model, processor)
    plain, packed = prepare(model, lora=False)
    with torch.no_grad():
        exact = case.one_by_one(plain)
    with torch.autocast("cpu", torch.bfloat16):
        found, expected = case.packed(packed), case.one_by_one(plain)
    errors = [(log_probs - exact).abs().max().item() for log_probs in (found, expected)]
    assert 1e-3 < errors[0] < 2 * errors[1]
    (found * case.weights).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in packed.parameters())


def see_the_future(queries: int, keys: int) -> torch.Tensor:
    """A completion sees all of itself."""
    return torch.ones(queries, keys, dtype=torch.bool)


def see_neighbours(*args: Any, segments: Any = None, **kwargs: Any) -> Any:
    """A completion sees those before it in the row."""
    return module.attention(*args, **kwargs)


def skip_the_prompt(queries: int, keys: int) -> torch.Tensor:
    """A completion does not see the first token of its prompt."""
    mask = torch.ones(queries, keys, dtype=torch.bool).tril(keys - queries)
    mask[:, 0] = False
    return mask


@pytest.mark.parametrize("leak", [see_the_future, see_neighbours, skip_the_prompt])
def test_a_leaky_mask_shows(leak: Any, load: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model, processor = load("Qwen2.5-VL")
    case = Case(0, model, processor)
    plain, packed = prepare(model, lora=False)
    if leak is see_neighbours:
        module.AttentionInterface.register("leaky", leak)
        packed.model.language_model.config._attn_implementation = "leaky"
    else:
        monkeypatch.setattr(module, "causal_lower_right", leak)
    with torch.no_grad():
        difference = (case.packed(packed) - case.one_by_one(plain)).abs().max()
    assert difference > 0.01


def test_pack(load: Any) -> None:
    """Where each token goes, for two prompts whose completions come mixed."""
    prompts = [
        Prompt(
            [], torch.tensor([5, 9, 6]), torch.zeros(3, 3), 3, [], torch.zeros(0), torch.zeros(0, 3)
        ),
        Prompt(
            [], torch.tensor([7, 9]), torch.ones(3, 2), 9, [], torch.zeros(0), torch.zeros(0, 3)
        ),
    ]
    ids = torch.tensor([[20, 21, 22], [30, 0, 0], [40, 41, 0], [0, 0, 0]])
    row = pack(prompts, torch.tensor([1, 0, 1, 0]), ids, (ids > 0).long(), image_token_id=9)
    assert row.input_ids.tolist() == [[5, 9, 6, 7, 9, 20, 21, 40]]
    assert row.position_ids[0].tolist() == [[0, 0, 0, 1, 1, 9, 10, 9]]
    assert row.is_picture.nonzero()[:, 1].tolist() == [1, 4]
    assert row.targets.tolist() == [30, 20, 21, 22, 40, 41]
    assert row.sources.tolist() == [2, 4, 5, 6, 4, 7]
    assert [(s.start, s.prompt, s.end) for s in row.segments] == [(0, 3, 3), (3, 2, 8)]
    assert row.unpack(row.targets[None], ids.shape).tolist() == ids.tolist()
