"""The estimate: what stays against a hand calculation, what a layer keeps against a real pass."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from PIL import Image
from tests.peak import peak_bytes
from tests.tiny import make_tiny
from torch import Tensor
from transformers import (
    AutoModelForImageTextToText,
    LogitsProcessorList,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from star_r1.model.loading import load_model, load_processor
from star_r1.model.mini import build_config, build_model, build_processor
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
from star_r1.train.packed import share
from star_r1.train.prompts import encode, see
from star_r1.train.sampling import sample

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
    stays += memory.gathered + memory.communication + memory.pictures
    sampling = memory.cache + memory.logits
    passing = max(memory.activations + memory.output_layer, sampling, memory.step)
    assert memory.peak == stays + passing


@pytest.mark.parametrize(
    ("division", "gathered", "communication", "step"),
    [
        ("none", 0, 0, 0),
        # a bucket of DeepSpeed's, its bound on gathered parameters, float32 gradients of a part
        ("zero2", 0, 1e9, 4 * 7_615_616_512 / 8),
        ("zero3", 2e9, 1e9, 4 * 7_615_616_512 / 8),
        # two layers and the output layer; the gradients of two layers
        ("fsdp", 2 * (2 * 233_057_792 + 152_064 * 3584), 2 * 2 * 233_057_792, 0),
    ],
)
def test_what_is_under_way(
    division: Division, gathered: float, communication: float, step: float
) -> None:
    model = build(published_config("Qwen/Qwen2.5-VL-7B-Instruct"))
    memory = plan(model, division, 8)
    found = memory.gathered, memory.communication, memory.step
    assert found == pytest.approx((gathered, communication, step), abs=4)


def test_keys_and_values() -> None:
    """28 layers and one that is there twice, 4 heads of 128 numbers, keys and values, 2 bytes."""
    memory = plan(build(published_config("Qwen/Qwen2.5-VL-7B-Instruct")))
    assert memory.cache == (2 * 100 + 16 * 20) * 29 * 2 * 4 * 128 * 2


@pytest.mark.parametrize("name", NAMES)
def test_pictures_are_those_of_encoded_prompts(name: str, tmp_path: Path) -> None:
    folder = make_tiny(tmp_path, name)
    model, processor = load_model(str(folder)), load_processor(str(folder), min_pixels=28 * 28)
    parts = [{"type": "image"}, {"type": "text", "text": "What changed?"}]
    row = {"prompt": [{"role": "user", "content": parts}], "images": [Image.new("RGB", (64, 96))]}
    with torch.no_grad():
        (prompt,) = see(encode([row], model.model, processor), model.model)
    load = dataclasses.replace(LOAD, held_patches=len(prompt.pixel_values))
    memory = plan(model, load=load, precision=Precision(torch.float32, False))
    tensors = (prompt.pixel_values, *(prompt.features or ()))
    assert memory.pictures == sum(tensor.nbytes for tensor in tensors)


@pytest.mark.parametrize("nucleus", [False, True])
def test_sampling_takes_what_the_plan_says(nucleus: bool) -> None:
    """A real pass: 6 prompts, 48 completions, of which a part stops now and then."""
    model, processor = (
        build_model(seed=0, layers=6, hidden_size=64, vision_depth=1),
        build_processor(),
    )
    parts = [{"type": "image"}, {"type": "text", "text": "What changed? " * 30}]
    row = {"prompt": [{"role": "user", "content": parts}], "images": [Image.new("RGB", (40, 40))]}
    with torch.no_grad():
        prompts = see(encode([row] * 6, model.model, processor), model.model)
    share(model)
    group, length = torch.arange(6).repeat_interleave(8), 64
    numbers = torch.rand(48, length, generator=torch.Generator().manual_seed(0))
    warp = LogitsProcessorList([TopKLogitsWarper(50), TopPLogitsWarper(0.9)] if nucleus else [])
    measured = peak_bytes(
        lambda: sample(model.eval(), prompts, group, numbers, range(20), warp), [model]
    )
    load = Load(len(prompts[0].input_ids), length, 1, 8, 6, 48)
    precision = Precision(torch.float32, False)
    memory = plan(model, load=load, precision=precision, nucleus=nucleus)
    assert memory.cache + memory.logits == pytest.approx(measured, rel=0.1)


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
