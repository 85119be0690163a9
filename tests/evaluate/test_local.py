from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tests.tiny import make_tiny, write_tokenizer
from transformers import (
    AutoTokenizer,
    CLIPImageProcessorPil,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
)

from star_r1.data.dataset import load
from star_r1.data.pictures import read_pair
from star_r1.errors import UserError
from star_r1.evaluate.local import LocalModel, _see
from star_r1.evaluate.predictions import Completion
from star_r1.evaluate.predictor import Question
from star_r1.evaluate.questions import ask, fingerprint
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


def complete(model: Any, processor: Any, rows: Any, **settings: Any) -> list[tuple[str, str]]:
    local = LocalModel(model, processor, **settings)
    return [(said.id, said.text) for said in local.predict(ask(rows, fingerprint(rows)))]


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
        inputs = processor(text=[prompt], images=[read_pair(row)], return_tensors="pt")
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
    completions = complete(model, processor, rows, batch_size=batch_size, max_new_tokens=NEW_TOKENS)
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


def sampled(model: Any, processor: Any, rows: Any, **settings: Any) -> list[Completion]:
    local = LocalModel(model, processor, max_new_tokens=8, temperature=1.0, **settings)
    questions = ask(rows, fingerprint(rows), samples_per_prompt=4)
    said = list(local.predict(questions))
    assert sorted((one.id, one.number) for one in said) == sorted(
        (row["id"], number) for row in rows for number in range(4)
    )
    return sorted(said, key=lambda one: (one.id, one.number))


def test_sampled_completions_follow_from_seed_row_and_number(
    model: Any, processor: Any, rows: Any
) -> None:
    rows = rows.select(range(4))
    said = sampled(model, processor, rows, batch_size=64)
    assert sampled(model, processor, rows, batch_size=3) == said
    assert sampled(model, processor, rows, seed=1) != said
    texts = {one.id: {other.text for other in said if other.id == one.id} for one in said}
    assert max(map(len, texts.values())) > 2
    for one in said:
        assert one.completion_tokens <= 8
        assert (one.status == "cut_off") <= (one.completion_tokens == 8)


def test_no_more_completions_at_once_than_a_batch_holds(
    model: Any, processor: Any, rows: Any
) -> None:
    """Also where a row wants more: else nothing would help against a lack of memory."""
    sizes = []
    model.lm_head.register_forward_hook(
        lambda module, inputs, out: sizes.append(out[..., 0].numel())
    )
    sampled(model, processor, rows.select(range(3)), batch_size=3)
    assert max(sizes) == 3


def test_sampling_from_the_likeliest_alone_is_greedy(model: Any, processor: Any, rows: Any) -> None:
    rows = rows.select(range(6))
    greedy = dict(complete(model, processor, rows, max_new_tokens=8))
    local = LocalModel(model, processor, max_new_tokens=8, temperature=1.0, top_p=1e-6)
    drawn = {one.id: one.text for one in local.predict(ask(rows, fingerprint(rows)))}
    assert drawn == greedy


def test_says_what_became_of_a_row_and_counts_its_tokens(
    model: Any, processor: Any, rows: Any
) -> None:
    local = LocalModel(model, processor, max_new_tokens=NEW_TOKENS)
    for said in local.predict(ask(rows, {row["id"]: f"key of {row['id']}" for row in rows})):
        ended = said.completion_tokens < NEW_TOKENS
        assert said.key == f"key of {said.id}"
        assert said.status in (("answered", "empty") if ended else ("cut_off", "answered"))
        assert said.prompt_tokens > 20


@pytest.mark.parametrize("saved", [True, False])
def test_an_adapter_may_lack_a_processor(model_folder: Path, tmp_path: Path, saved: bool) -> None:
    """Then it is that of its base; its own comes first."""
    torch.manual_seed(0)
    config = LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False)
    get_peft_model(load_model(str(model_folder)), config).save_pretrained(tmp_path)
    if saved:
        own = load_processor(str(model_folder))
        own.chat_template += "Think twice."
        own.save_pretrained(tmp_path)
    base, local = (LocalModel.load(str(folder)) for folder in (model_folder, tmp_path))
    assert base.identity["weights"] != local.identity["weights"]
    assert (base.identity["processor"] != local.identity["processor"]) == saved


def test_a_lack_of_memory_names_the_flag(model: Any, processor: Any, rows: Any) -> None:
    def fill_up(module: Any, inputs: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    model.lm_head.register_forward_pre_hook(fill_up)
    for batch_size, way_out in ((16, "give a smaller one"), (1, "take a larger GPU")):
        says = f"--batch-size {batch_size}: the GPU's memory does not suffice; {way_out}"
        with pytest.raises(UserError, match=says):
            complete(model, processor, rows, batch_size=batch_size)


def test_a_model_too_large_for_the_gpu(model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def move(module: Any, device: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(torch.nn.Module, "to", move)
    with pytest.raises(UserError, match="too large for the GPU's memory; serve it on several by"):
        LocalModel.load(str(model_folder))


@pytest.mark.parametrize(
    ("template", "said"),
    [
        (None, "does not have a chat template"),
        ("{{ raise_exception('System role not supported') }}", "System role not supported"),
        ("{{ messages[0].", "expected name"),
    ],
)
def test_a_chat_template_that_does_not_take_a_question(
    model: Any, model_folder: Path, rows: Any, template: str | None, said: str
) -> None:
    processor = load_processor(str(model_folder))
    processor.chat_template = template
    with pytest.raises(UserError, match=f"chat template does not take .*{said}") as error:
        complete(model, processor, rows)
    assert "\n" not in str(error.value)


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
    first, second = read_pair(rows[0])
    third, _ = read_pair(rows[2])  # of another scene
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


@pytest.mark.parametrize("name", ["Qwen/Qwen2-VL-7B-Instruct", "Qwen/Qwen3-VL-8B-Instruct"])
def test_other_qwen_families_equal_generate(name: str, rows: Any, tmp_path: Path) -> None:
    model = load_model(str(make_tiny(tmp_path, name)))
    processor = load_processor(str(tmp_path), min_pixels=1)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim == 2:
                weight.mul_(8)
    rows = rows.select(range(4))  # both views of a sample share a picture
    said = dict(complete(model, processor, rows, max_new_tokens=4))
    assert said == by_generate(model, processor, rows)


def test_what_inner_layers_see_of_a_picture_goes_with_it(tmp_path: Path) -> None:
    model = load_model(str(make_tiny(tmp_path, "Qwen/Qwen3-VL-8B-Instruct")))
    one, two = torch.randn(2, 16, 3 * 2 * 16 * 16)
    patches, grids = torch.cat([two, one, two]), torch.tensor([[1, 4, 4]] * 3)
    with torch.inference_mode():
        seen, plain = _see(model, patches, grids), model.get_image_features(patches, grids)
    assert len(seen.deepstack_features) == len(plain.deepstack_features) == 2
    for ours, theirs in zip(seen.deepstack_features, plain.deepstack_features, strict=True):
        torch.testing.assert_close(ours, theirs)
        assert not torch.allclose(theirs[0], theirs[1])


def test_a_family_without_a_loop_of_its_own_goes_through_generate(
    rows: Any, tmp_path: Path
) -> None:
    tokens = write_tokenizer(tmp_path, "qwen2_vl")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path, padding_side="left")
    tokenizer.add_tokens("<image>", special_tokens=True)
    image_id = tokenizer.convert_tokens_to_ids("<image>")
    small = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 2}
    text = {**small, "vocab_size": len(tokenizer), "num_attention_heads": 2}
    vision = {**small, "image_size": 56, "patch_size": 28, "num_attention_heads": 2}
    config = LlavaConfig(
        text_config={"model_type": "llama", **text},
        vision_config={"model_type": "clip_vision_model", **vision},
        image_token_index=image_id,
    )
    torch.manual_seed(0)
    model = LlavaForConditionalGeneration(config).eval()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim == 2:
                weight.mul_(8)
    model.generation_config.eos_token_id = tokens.token_to_id("<|im_end|>")
    model.generation_config.pad_token_id = tokens.token_to_id("<|endoftext|>")
    model.generation_config.repetition_penalty = 9.0  # as Qwen2.5-VL's 1.05, but to be seen
    processor = LlavaProcessor(
        CLIPImageProcessorPil(size=56, crop_size=56),
        tokenizer,
        patch_size=28,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=tokenizer.chat_template.replace("<|image_pad|>", "<image>"),
    )
    rows = rows.select(range(4))
    said = dict(complete(model, processor, rows, batch_size=3, max_new_tokens=6))
    assert said == by_generate(model, processor, rows, max_new_tokens=6)
    assert len(set(said.values())) > 1


def by_generate(model: Any, processor: Any, rows: Any, max_new_tokens: int = 4) -> dict[str, str]:
    """One row at a time, so without padding."""
    names = ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")
    values = model.config.to_dict()
    forbidden = [values[name] for name in names if name in values]
    said = {}
    for row in rows:
        prompt = processor.apply_chat_template(
            row["prompt"], add_generation_prompt=True, tokenize=False
        )
        inputs = processor(text=[prompt], images=[read_pair(row)], return_tensors="pt")
        tokens = model.generate(
            **inputs,
            max_new_tokens=max_new_tokens,
            do_sample=False,
            repetition_penalty=1.0,
            suppress_tokens=forbidden if model.config.model_type.startswith("qwen") else None,
        )[0, inputs["input_ids"].shape[1] :]
        said[row["id"]] = processor.tokenizer.decode(tokens, skip_special_tokens=True)
    return said


def test_variables_of_the_chat_template(model: Any, model_folder: Path, rows: Any) -> None:
    """They change the prompt, greedy or drawn, and the identity of a run; without them it stays."""
    processor = load_processor(str(model_folder))
    plain = LocalModel(model, processor).identity
    processor.chat_template += "{{ opening }}"
    said = {}
    for opening in (None, "Find: 3"):
        settings = {"chat_template_kwargs": {"opening": opening}} if opening else {}
        for temperature in (0.0, 1.0):
            said[opening, temperature] = complete(
                model, processor, rows, max_new_tokens=4, temperature=temperature, **settings
            )
    assert said[None, 0.0] != said["Find: 3", 0.0]
    assert said[None, 1.0] != said["Find: 3", 1.0]
    about = LocalModel(model, processor, chat_template_kwargs={"opening": "a"}).identity
    assert about["chat_template_kwargs"] == {"opening": "a"}
    assert "chat_template_kwargs" not in plain
    with pytest.raises(UserError, match="has no such variable"):
        LocalModel(model, processor, chat_template_kwargs={"openin": "a"})


def test_more_questions_than_are_looked_at_together(
    model: Any, processor: Any, rows: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are taken as there is room for them, and the answers stay the same."""
    whole = sorted(complete(model, processor, rows, max_new_tokens=4))
    monkeypatch.setattr("star_r1.evaluate.local._AHEAD", 10)
    taken: list[str] = []

    def questions() -> Iterator[Question]:
        for question in ask(rows, fingerprint(rows)):
            taken.append(question.id)
            yield question

    answers = LocalModel(model, processor, max_new_tokens=4).predict(questions())
    first = next(answers)
    assert len(taken) == 10
    assert sorted([(first.id, first.text), *((one.id, one.text) for one in answers)]) == whole
