from pathlib import Path
from typing import Any

import pytest
import torch

from star_r1.data.dataset import load
from star_r1.evaluate.predictors import _see, complete
from star_r1.model.loading import load_model, load_processor

NEW_TOKENS = 12


@pytest.fixture(scope="module")
def processor(model_folder: Path) -> Any:
    return load_processor(str(model_folder))


@pytest.fixture
def model(model_folder: Path) -> Any:
    """Random weights so large that rows differ, and so many end tokens that rows end apart."""
    model = load_model(str(model_folder))
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim == 2:
                weight.mul_(8)
    model.generation_config.eos_token_id = list(range(100, 140))
    return model


@pytest.fixture(scope="module")
def rows(data_folder: Path) -> Any:
    return load(data_folder)


@pytest.fixture
def reference(model: Any, processor: Any, rows: Any) -> dict[str, str]:
    """What ``generate`` of transformers says, one row at a time, so without padding."""
    config = model.config
    vision = [
        config.image_token_id,
        config.video_token_id,
        config.vision_start_token_id,
        config.vision_end_token_id,
    ]
    said = {}
    for row in rows:
        prompt = processor.apply_chat_template(
            row["prompt"], add_generation_prompt=True, tokenize=False
        )
        inputs = processor(text=[prompt], images=[row["images"]], return_tensors="pt")
        tokens = model.generate(
            **inputs, max_new_tokens=NEW_TOKENS, do_sample=False, suppress_tokens=vision
        )[0, inputs["input_ids"].shape[1] :].tolist()
        if tokens[-1] in model.generation_config.eos_token_id:
            tokens.pop()
        said[row["id"]] = processor.tokenizer.decode(tokens, skip_special_tokens=True)
    return said


@pytest.mark.parametrize("batch_size", [1, 5, 16])
def test_equals_generate_whatever_the_batch(
    model: Any, processor: Any, rows: Any, reference: dict[str, str], batch_size: int
) -> None:
    completions = list(
        complete(model, processor, rows, batch_size=batch_size, max_new_tokens=NEW_TOKENS)
    )
    assert len(completions) == len(rows)
    assert dict(completions) == reference
    # The test is one only if rows say different things and end at different places.
    lengths = {len(processor.tokenizer(text)["input_ids"]) for text in reference.values()}
    assert len(set(reference.values())) > len(rows) / 2
    assert len(lengths) > 3


def test_longest_prompt_first(model: Any, processor: Any, rows: Any) -> None:
    order = [id for id, _ in complete(model, processor, rows, max_new_tokens=1)]
    lines = {row["id"]: row["prompt"][1]["content"][2]["text"].count("\n") for row in rows}
    assert [lines[id] for id in order] == sorted(lines.values(), reverse=True)


def test_never_writes_a_vision_token(model: Any, processor: Any, rows: Any) -> None:
    def say() -> dict[str, str]:
        return dict(complete(model, processor, rows, max_new_tokens=4))

    def favour_vision(module: Any, inputs: Any, logits: torch.Tensor) -> torch.Tensor:
        logits[..., [model.config.image_token_id, model.config.vision_start_token_id]] += 1e4
        return logits

    before = say()
    model.lm_head.register_forward_hook(favour_vision)
    assert say() == before


def test_a_picture_that_recurs_is_looked_at_once(model: Any, processor: Any, rows: Any) -> None:
    first, second = rows[0]["images"]
    (third, _) = rows[1]["images"]
    inputs = processor.image_processor(
        images=[first, second, first, third, first], return_tensors="pt"
    )
    patches, grids = inputs["pixel_values"], inputs["image_grid_thw"]
    looked_at: list[int] = []
    model.model.visual.register_forward_pre_hook(
        lambda module, args, kwargs: looked_at.append(len(kwargs["grid_thw"])), with_kwargs=True
    )
    with torch.inference_mode():
        seen = _see(model, patches, grids).pooler_output
        plain = model.get_image_features(patches, grids).pooler_output
    assert looked_at == [3, 5]
    for ours, theirs in zip(seen, plain, strict=True):
        torch.testing.assert_close(ours, theirs)
