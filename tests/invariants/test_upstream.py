"""Faults of other libraries that we work around, and the parts of TRL that we build on.

Each fault is shown without our guard and gone with it. Where the first half fails, upstream has
mended it: the message says what can go.
"""

import ast
import hashlib
import inspect
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import pytest
import torch
from datasets import Image as ImageFile
from datasets import List
from packaging.requirements import Requirement
from PIL import Image
from tests.fake_vllm import FakeVLLM, colocated
from tests.tiny import make_tiny
from transformers import Trainer, TrainingArguments
from transformers.trainer_utils import set_seed
from trl import GRPOConfig, TrlParser, data_utils
from trl.generation import vllm_generation
from trl.trainer import grpo_trainer
from trl.trainer.grpo_trainer import GRPOTrainer
from trl.trainer.utils import RepeatSampler

from star_r1.model.loading import load_model
from star_r1.model.mini import build_model, build_processor
from star_r1.train.checkpoints import ExactResume
from star_r1.train.grpo import (
    EpochSampler,
    SharedPromptGRPOTrainer,
    StarGRPOTrainer,
    forbid_vision_tokens,
    prompts_of,
)
from star_r1.train.vllm import SaneVLLM

ROOT = Path(__file__).parents[2]
SIZES = {"hidden_size": 64, "layers": 2, "vision_hidden_size": 32, "vision_depth": 1}
G = 2


def constant(completions: list[Any], **columns: Any) -> list[float]:
    return [1.0] * len(completions)


@pytest.fixture
def build(data_folder: Path, tmp_path: Path) -> Callable[..., Any]:
    """Builds a trainer of TRL, or of ours, on a small random model."""

    def build(cls: type[GRPOTrainer], model: Any, **settings: Any) -> Any:
        args = GRPOConfig(
            str(tmp_path),
            per_device_train_batch_size=2 * G,
            num_generations=G,
            max_completion_length=4,
            use_cpu=True,
            bf16=False,
            report_to="none",
            beta=0.0,
            **settings,
        )
        rows = prompts_of(str(data_folder), ["center"])
        rows = rows.cast_column("images", List(ImageFile()))  # as TRL's own trainer needs them
        return cls(model, constant, args, train_dataset=rows, processing_class=build_processor())

    return build


def rows_of(trainer: Any) -> list[dict[str, Any]]:
    return [trainer.train_dataset[prompt] for prompt in range(2) for _ in range(G)]


# 1. Pictures for vLLM ----------------------------------------------------------------------------


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> FakeVLLM:
    """vLLM itself is at work in tests/train/test_vllm.py."""
    return colocated(monkeypatch, build_model(0, **SIZES).config.image_token_id, 4)


class SaneTrainer(SaneVLLM, GRPOTrainer):  # type: ignore[misc]
    """The guard on TRL's own trainer."""


@pytest.mark.parametrize("guarded", [False, True], ids=["TRL", "guarded"])
def test_vllm_gets_one_placeholder_a_picture(guarded: bool, build: Any, engine: FakeVLLM) -> None:
    """vLLM repeats the placeholders itself, so that they must come once (huggingface/trl#6294)."""
    trainer = build(SaneTrainer if guarded else GRPOTrainer, build_model(0, **SIZES), use_vllm=True)
    output = trainer._generate_and_score_completions(rows_of(trainer))
    image = trainer.model.config.image_token_id
    given = [prompt["prompt_token_ids"].count(image) for prompt in engine.prompts]
    pictures = [len(prompt["multi_modal_data"]["image"]) for prompt in engine.prompts]
    assert pictures == [2] * len(pictures)
    if guarded:
        assert given == pictures
        vision = {image, trainer.model.config.video_token_id}
        assert engine.settings["logit_bias"] == dict.fromkeys(vision, -100)
    else:
        assert given != pictures, (
            "TRL hands vLLM one placeholder a picture now: FaithfulVLLM need not call placeholders"
        )
    # What is trained on keeps a placeholder for each visual token, 2 x 2 a picture.
    assert ((output["prompt_ids"] == image).sum(1) == 2 * 4).all()


# 2. Resume ---------------------------------------------------------------------------------------


class ResumingTrainer(ExactResume, Trainer):  # type: ignore[misc]
    """The guard on the plain trainer."""


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("Qwen/Qwen2-VL-2B-Instruct", True),
        ("Qwen/Qwen2.5-VL-3B-Instruct", True),
        ("Qwen/Qwen3-VL-2B-Instruct", False),
    ],
)
def test_resume_loads_the_weights(name: str, fault: bool, tmp_path: Path) -> None:
    """Names on disk are not those of the modules, and Trainer loads non-strictly, so that it
    keeps the initial weights (huggingface/transformers#43701)."""
    start = make_tiny(tmp_path / "start", name)
    trained = load_model(str(start))
    with torch.no_grad():
        for parameter in trained.parameters():
            parameter.add_(1.0)
    trained.save_pretrained(tmp_path / "checkpoint-1")
    args = TrainingArguments(str(tmp_path / "run"), use_cpu=True, report_to="none")

    def share_loaded(cls: type[Trainer]) -> float:
        trainer = cls(load_model(str(start)), args)
        trainer._load_from_checkpoint(str(tmp_path / "checkpoint-1"))
        pairs = zip(trainer.model.parameters(), trained.parameters(), strict=True)
        same = [torch.equal(ours, theirs) for ours, theirs in pairs]
        return sum(same) / len(same)

    assert share_loaded(ResumingTrainer) == 1
    assert (share_loaded(Trainer) < 1) is fault, (
        f"{name}: mended upstream, or broken newly; once all three load, "
        "ExactResume._load_from_checkpoint can go"
    )


# 3. Vision tokens --------------------------------------------------------------------------------


def love_pictures(model: Any, batch: Any) -> None:
    """Make the image placeholder by far the likeliest next token."""
    with torch.no_grad():
        states = model.model(**batch).last_hidden_state[:, -1]
        model.get_output_embeddings().weight[model.config.image_token_id] = 5 * states.mean(0)


@pytest.mark.parametrize("guarded", [False, True], ids=["plain", "guarded"])
def test_sampled_vision_tokens(guarded: bool, build: Any) -> None:
    """They crash the forward pass of the step (huggingface/trl#3847)."""
    trainer = build(GRPOTrainer, build_model(0, **SIZES), num_iterations=2)
    model = trainer.model
    rows = rows_of(trainer)
    text = trainer.processing_class.apply_chat_template(
        [row["prompt"] for row in rows], add_generation_prompt=True, tokenize=False
    )
    pictures = [row["images"] for row in rows]
    batch = trainer.processing_class(images=pictures, text=text, padding=True, return_tensors="pt")
    love_pictures(model, batch)
    if guarded:
        forbid_vision_tokens(model)
    set_seed(0)
    # As vLLM or a loop of one's own samples; TRL's call of HF generate suppresses the image's.
    drawn = model.generate(**batch, do_sample=True, top_k=0, temperature=1.0, max_new_tokens=4)
    drawn = drawn[:, batch["input_ids"].shape[1] :]
    assert (drawn == model.config.image_token_id).any().item() is not guarded
    trainer._generate_single_turn = lambda *args, **kwargs: (drawn.tolist(), None)
    if guarded:
        trainer._generate_and_score_completions(rows)
    else:
        with pytest.raises(ValueError, match="Image features and image tokens do not match"):
            trainer._generate_and_score_completions(rows)


# 4. Pillow ---------------------------------------------------------------------------------------


def test_pillow_is_older_than_13() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = next(r for r in map(Requirement, project["dependencies"]) if r.name == "pillow")
    pins = (ROOT / "constraints.txt").read_text().split()
    assert not wanted.specifier.contains("13.0.0")
    assert f"pillow=={PIL.__version__}" in pins
    assert wanted.specifier.contains(PIL.__version__)


def test_bicubic_resizing_is_that_of_pillow_12() -> None:
    """Pillow 13 gives 27 % of these values another number, by up to 14 of 255: a picture that a
    processor resizes would not be the one that a model was trained or measured on."""
    noise = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    resized = Image.fromarray(noise).resize((56, 28), Image.Resampling.BICUBIC)
    assert hashlib.sha256(resized.tobytes()).hexdigest().startswith("7f0a718fd5900a3e")


# What we override and call -----------------------------------------------------------------------

PARAMETERS = {
    # method that train/*.py overrides or calls -> its parameters in TRL 1.16, transformers 5.23
    (GRPOTrainer, "_get_train_sampler"): "self dataset",
    (GRPOTrainer, "_calculate_rewards"): "self inputs prompts completions completion_ids_list",
    (GRPOTrainer, "_log_completion_extra"): "self column values",
    (GRPOTrainer, "_prepare_inputs"): "self generation_batch",
    (GRPOTrainer, "_generate_and_score_completions"): "self inputs",
    (GRPOTrainer, "_tokenize_prompts"): "self prompts",
    (GRPOTrainer, "_generate_single_turn"): (
        "self prompt_ids images multimodal_fields num_generations has_tool_images"
    ),
    (GRPOTrainer, "_get_per_token_logps_and_entropies"): (
        "self model input_ids attention_mask logits_to_keep batch_size compute_entropy "
        "compute_aux_loss pixel_values image_grid_thw num_images pixel_attention_mask "
        "spatial_shapes num_tiles image_sizes token_type_ids mm_token_type_ids image_position_ids"
    ),
    (GRPOTrainer, "_compute_loss"): "self model inputs",
    (GRPOTrainer, "_load_from_checkpoint"): "self resume_from_checkpoint model",
    (GRPOTrainer, "_load_best_model"): "self",
    (GRPOTrainer, "_finalize_training"): "self trial num_train_samples start_time",
    (GRPOTrainer, "_load_optimizer_and_scheduler"): "self checkpoint",
    (GRPOTrainer, "_save_optimizer_and_scheduler"): "self output_dir",
    (GRPOTrainer, "evaluate"): "self eval_dataset ignore_keys metric_key_prefix",
    (GRPOTrainer, "log"): "self logs start_time",
    (GRPOTrainer, "_save_checkpoint"): "self model trial",
    (GRPOTrainer, "train"): "self resume_from_checkpoint trial ignore_keys_for_eval",
    (GRPOTrainer, "_get_grad_norm"): "self model grad_norm",
    (GRPOTrainer, "init_hf_repo"): "self token private",
    (GRPOTrainer, "create_model_card"): "self model_name dataset_name tags",
    (RepeatSampler, "__init__"): (
        "self data_source mini_repeat_count batch_size repeat_count shuffle seed"
    ),
    (vllm_generation.VLLMGeneration, "generate"): "self prompts images num_generations profiler",
    (vllm_generation.VLLMGeneration, "sync_weights"): "self",
    (vllm_generation.VLLMGeneration, "_iter_named_params"): "self",
    (vllm_generation.VLLMGeneration, "_place_features"): "self features prompt_ids",
    (vllm_generation.VLLMGeneration, "_fix_param_name_to_vllm"): "self name extra_prefixes",
    (grpo_trainer, "create_model_from_path"): "model_id architecture kwargs",
    (grpo_trainer, "split_tensor_dict"): "tensor_dict num_chunks",
    (grpo_trainer, "disable_gradient_checkpointing"): "model gradient_checkpointing_kwargs",
    (data_utils, "prepare_multimodal_messages"): "messages images",
    (TrlParser, "parse_args_and_config"): (
        "self args return_remaining_strings fail_with_unknown_args separate_remaining_strings"
    ),
}


@pytest.mark.parametrize(
    ("owner", "name"), PARAMETERS, ids=[f"{owner.__name__}.{name}" for owner, name in PARAMETERS]
)
def test_what_we_build_on_is_where_it_was(owner: Any, name: str) -> None:
    found = " ".join(inspect.signature(getattr(owner, name)).parameters)
    assert found == PARAMETERS[owner, name], (
        f"{owner.__name__}.{name} has moved: read what changed in it, mend train/, then this table"
    )


@pytest.mark.parametrize("cls", [SharedPromptGRPOTrainer, SaneTrainer])
def test_the_table_has_all_overrides(cls: type) -> None:
    """What our classes define in the place of something of TRL's or transformers'."""
    ours = [base for base in cls.__mro__ if base.__module__.startswith(("star_r1.", "tests."))]
    overridden = {
        name
        for base in ours
        for name, value in vars(base).items()
        if inspect.isfunction(value) and name != "__init__" and hasattr(GRPOTrainer, name)
    }
    assert overridden <= {name for _, name in PARAMETERS}


@pytest.mark.parametrize(
    "module", ["checkpoints", "grpo", "guards", "shared_prompt", "upstream", "vllm", "run"]
)
def test_attributes_that_we_read(module: str, build: Any, engine: FakeVLLM) -> None:
    """All that train/ reads from a variable named ``trainer``."""
    trainer = build(SharedPromptGRPOTrainer, build_model(0, **SIZES), use_vllm=True)
    tree = ast.parse((ROOT / "src" / "star_r1" / "train" / f"{module}.py").read_text())
    names = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "trainer"
    }
    assert [name for name in names if not hasattr(trainer, name)] == []


def test_repeat_sampler_draws_from_a_generator_of_its_own(build: Any) -> None:
    """What EpochSampler seeds anew in each epoch."""
    sampler = build(StarGRPOTrainer, build_model(0, **SIZES))._get_train_sampler()
    assert isinstance(sampler, EpochSampler)
    assert sampler.generator.initial_seed() == sampler.seed
