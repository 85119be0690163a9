"""The estimate: what stays against a hand calculation, what a layer keeps against a real pass."""

import dataclasses
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor
from transformers import AutoModelForImageTextToText

from star_r1.model.mini import build_config
from star_r1.model.published import published_config, shrink
from star_r1.train.launch import Division, Launch
from star_r1.train.memory import (
    Load,
    Memory,
    Precision,
    count_parameters,
    estimate,
    layer_bytes,
    smallest_card,
)

NAMES = ["Qwen/Qwen2-VL-2B-Instruct", "Qwen/Qwen2.5-VL-7B-Instruct", "Qwen/Qwen3-VL-8B-Instruct"]
LOAD = Load(100, 20, 1, 8, 2, 16)
LORA = LoraConfig(target_modules=r".*language_model.*(q|k|v|o|gate|up|down)_proj$")


def build(config: Any, device: str = "meta", freeze: bool = True) -> Any:
    with torch.device(device):
        model = AutoModelForImageTextToText.from_config(config)
    model.model.visual.requires_grad_(not freeze)
    return model


def plan(model: Any, division: Division = "none", processes: int = 1, **changes: Any) -> Memory:
    given = {
        "load": LOAD,
        "precision": Precision(torch.bfloat16, True),
        "launch": Launch(processes, 1, division),
        "optimizer": "adamw_torch",
        "reference": True,
        "checkpointing": False,
    }
    return estimate(model, **{**given, **changes})


@pytest.mark.parametrize(
    ("division", "processes", "weights", "gradients", "optimizer", "reference"),
    [
        # bytes a parameter: (trained, frozen) of weights, then of what is trained, then of all
        ("none", 1, (2, 2), 2, 4, 2),
        ("none", 8, (2, 2), 4, 4, 2),
        ("zero1", 8, (2, 2), 2, 12 / 8, 2),
        ("zero2", 8, (2, 2), 2 / 8, 12 / 8, 2),
        ("zero3", 8, (2 / 8, 2 / 8), 2 / 8, 12 / 8, 2 / 8),
        ("fsdp", 8, (4 / 8, 2 / 8), 4 / 8, 8 / 8, 2 / 8),
    ],
)
def test_what_stays(
    division: Division,
    processes: int,
    weights: tuple[float, float],
    gradients: float,
    optimizer: float,
    reference: float,
) -> None:
    model = build(published_config("Qwen/Qwen2.5-VL-7B-Instruct"))
    trained, frozen = 7_615_616_512, 676_550_144
    assert count_parameters(model) == (trained, frozen)
    memory = plan(model, division, processes)
    assert memory.weights == pytest.approx(weights[0] * trained + weights[1] * frozen, abs=1)
    assert memory.gradients == pytest.approx(gradients * trained, abs=1)
    assert memory.optimizer == pytest.approx(optimizer * trained, abs=1)
    assert memory.reference == pytest.approx(reference * (trained + frozen), abs=1)
    stays = memory.weights + memory.gradients + memory.optimizer + memory.reference
    passing = max(memory.activations + memory.output_layer, memory.cache)
    assert memory.peak == stays + memory.gathered + passing


def test_keys_and_values() -> None:
    """28 layers, 4 heads of 128 numbers, keys and values, 2 bytes."""
    memory = plan(build(published_config("Qwen/Qwen2.5-VL-7B-Instruct")))
    assert memory.cache == (2 * 100 + 16 * 20) * 28 * 2 * 4 * 128 * 2


def test_what_a_change_saves() -> None:
    model = build(published_config("Qwen/Qwen2.5-VL-3B-Instruct"))
    whole, few = plan(model), plan(model, optimizer="paged_adamw_8bit", reference=False)
    assert few.optimizer * 2 == whole.optimizer
    assert few.reference == 0
    assert plan(model, checkpointing=True).activations < whole.activations / 5
    trained = build(published_config("Qwen/Qwen2.5-VL-3B-Instruct"), freeze=False)
    load = dataclasses.replace(LOAD, patches=1000)
    assert plan(trained, load=load).activations > plan(model, load=load).activations


def test_smallest_card() -> None:
    assert smallest_card(21_000_000_000) == 24
    assert smallest_card(22_000_000_000) == 32
    assert smallest_card(200_000_000_000) is None


def kept_by_a_pass(model: Any, tokens: int, checkpointing: bool, autocast: bool) -> int:
    """Bytes of the tensors that the language model's layers keep for the backward pass."""
    text = model.config.get_text_config()
    language = model.get_base_model() if hasattr(model, "peft_config") else model
    language = language.model.language_model
    language.train()
    if checkpointing:
        language.gradient_checkpointing_enable()
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage()._cdata] = tensor
        return tensor

    hidden = torch.randn(1, tokens, text.hidden_size, requires_grad=True)
    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        torch.autocast("cpu", torch.bfloat16, enabled=autocast),
    ):
        output = language(inputs_embeds=hidden, use_cache=False).last_hidden_state
    for parameter in model.parameters():
        kept.pop(parameter.untyped_storage()._cdata, None)
    assert output.requires_grad
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


@pytest.mark.parametrize("autocast", [False, True], ids=["float32", "autocast"])
@pytest.mark.parametrize("lora", [False, True], ids=["full", "LoRA"])
@pytest.mark.parametrize("name", NAMES)
def test_activations_are_those_of_a_real_pass(name: str, lora: bool, autocast: bool) -> None:
    config = shrink(published_config(name), 300, layers=4)
    real, fake = build(config, "cpu"), build(config)
    if lora:
        real, fake = get_peft_model(real, LORA), get_peft_model(fake, LORA)
    tokens = 256
    memory = plan(
        fake,
        load=Load(tokens, 0, 1, 0),
        precision=Precision(torch.float32, autocast),
    )
    measured = kept_by_a_pass(real, tokens, False, autocast)
    assert memory.activations == pytest.approx(measured, rel=0.1)


def test_checkpointing_keeps_the_inputs_and_one_layer() -> None:
    model = build(build_config(layers=4))
    layer = model.model.language_model.layers[0]
    text = model.config.get_text_config()
    one, copies = layer_bytes(layer, text, 256, torch.float32, False)
    memory = plan(
        model,
        load=Load(256, 0, 1, 0),
        precision=Precision(torch.float32, False),
        checkpointing=True,
    )
    assert copies == 0
    assert memory.activations == one + 4 * 256 * text.hidden_size * 4


def test_autocast_keeps_a_bfloat16_copy_of_each_matrix() -> None:
    config = shrink(published_config("Qwen/Qwen2.5-VL-7B-Instruct"), 300)
    layer = build(config).model.language_model.layers[0]
    text = config.get_text_config()
    for tokens in (100, 200):
        _, copies = layer_bytes(layer, text, tokens, torch.float32, True)
        matrices = [p for p in layer.parameters() if p.ndim == 2]
        assert copies == 2 * sum(p.numel() for p in matrices)
    assert layer_bytes(layer, text, 100, torch.bfloat16, False)[1] == 0
