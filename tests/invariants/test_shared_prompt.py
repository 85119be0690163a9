"""Padding, sharing prompts and our sampling loop change no number; vision tokens get none."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Image, List
from tests.tiny import make_tiny
from transformers import LogitsProcessor, LogitsProcessorList
from trl.trainer.grpo_trainer import GRPOTrainer

from star_r1.model.loading import load_model, load_processor
from star_r1.model.mini import build_model, build_processor
from star_r1.train import sampling
from star_r1.train.grpo import (
    SharedPromptGRPOTrainer,
    StarGRPOConfig,
    StarGRPOTrainer,
    prompts_of,
)
from star_r1.train.prompts import encode as encode_prompts
from star_r1.train.sampling import sample, warpers

G, PROMPTS, LENGTH = 3, 4, 10
GROUP = torch.arange(PROMPTS).repeat_interleave(G)
TRAINERS = [StarGRPOTrainer, SharedPromptGRPOTrainer]


def letters(completions: list[Any], **columns: Any) -> list[float]:
    """A reward that varies on random text, unlike those that read answers."""
    return [float(len(set(completion[0]["content"]))) for completion in completions]


@pytest.fixture
def build(data_folder: Path, tmp_path: Path) -> Callable[..., Any]:
    """Builds a trainer on a small random model in memory."""

    def build(
        cls: type[GRPOTrainer],
        reward: Any = letters,
        frozen: bool = True,
        name: str = "mini",
        **settings: Any,
    ) -> Any:
        if name == "mini":
            sizes = {"hidden_size": 64, "layers": 2, "vision_hidden_size": 32, "vision_depth": 1}
            model, processor = build_model(seed=0, **sizes), build_processor()
        else:
            folder = make_tiny(tmp_path / "tiny", name)
            model = load_model(str(folder))
            processor = load_processor(str(folder), min_pixels=28 * 28)
        model.model.visual.requires_grad_(not frozen)
        with torch.no_grad():  # at its initial size the layers hardly matter to what follows
            for layer in model.model.language_model.layers.parameters():
                layer.mul_(4)
        args = StarGRPOConfig(
            str(tmp_path),
            per_device_train_batch_size=G * PROMPTS,
            num_generations=G,
            max_completion_length=LENGTH,
            use_cpu=True,
            report_to="none",
            log_completions=False,
            **settings,
        )
        return cls(
            model,
            reward,
            args,
            train_dataset=prompts_of(str(data_folder), ["center"]).cast_column(
                "images",
                List(Image()),  # as TRL's own methods need them
            ),
            processing_class=processor,
        )

    return build


def rows_of(trainer: Any) -> list[dict[str, Any]]:
    """One generation batch; its prompts differ in length."""
    return [trainer.train_dataset[prompt] for prompt in range(PROMPTS) for _ in range(G)]


def encode(trainer: Any, rows: list[dict[str, Any]]) -> Any:
    text = trainer.processing_class.apply_chat_template(
        [row["prompt"] for row in rows], add_generation_prompt=True, tokenize=False
    )
    return trainer.processing_class(
        images=[row["images"] for row in rows], text=text, padding=True, return_tensors="pt"
    )


def log_probs_one_by_one(trainer: Any, rollouts: dict[str, Any]) -> list[torch.Tensor]:
    """By HF's plain forward, one unpadded sequence at a time, vision ids out of the softmax."""
    model, result = trainer.model, []
    completions = zip(rollouts["completion_ids"], rollouts["completion_mask"].bool(), strict=True)
    for row, (ids, mask) in zip(rows_of(trainer), completions, strict=True):
        prompt, completion = encode(trainer, [row]), ids[mask][None]
        types = torch.zeros_like(completion, dtype=prompt["mm_token_type_ids"].dtype)
        logits = model(
            input_ids=torch.cat([prompt["input_ids"], completion], dim=1),
            mm_token_type_ids=torch.cat([prompt["mm_token_type_ids"], types], dim=1),
            pixel_values=prompt["pixel_values"],
            image_grid_thw=prompt["image_grid_thw"],
        ).logits[0, prompt["input_ids"].shape[1] - 1 : -1]
        logits[:, [model.config.image_token_id, model.config.video_token_id]] = -torch.inf
        result.append(logits.log_softmax(-1).gather(1, completion.T)[:, 0])
    return result


@pytest.mark.parametrize("cls", TRAINERS)
def test_log_probs_of_the_padded_batch_equal_single_ones(cls: type, build: Any) -> None:
    """num_iterations=2 makes TRL keep the log-probabilities of the rollouts' own policy."""
    trainer = build(cls, num_iterations=2)
    with torch.no_grad():
        rollouts = trainer._generate_and_score_completions(rows_of(trainer))
        assert len(rollouts["prompt_mask"].sum(1).unique()) > 1  # so padding is at work
        expected = log_probs_one_by_one(trainer, rollouts)
    for name in ("old_per_token_logps", "ref_per_token_logps"):
        kept = zip(rollouts[name], rollouts["completion_mask"].bool(), strict=True)
        found = [row[mask] for row, mask in kept]
        torch.testing.assert_close(torch.cat(found), torch.cat(expected), atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["mini", "Qwen/Qwen3-VL-4B-Instruct"])
def test_pictures_are_seen_in_the_precision_of_the_forward_pass(build: Any, name: str) -> None:
    """Under mixed precision flash-attention refuses what is still in float32."""
    trainer = build(SharedPromptGRPOTrainer, name=name, bf16=True)
    rows, seen = rows_of(trainer), []
    trainer.model.train()
    with torch.no_grad():
        trainer._generate_and_score_completions(rows)
    tower = trainer.model.model.visual
    handle = tower.register_forward_hook(lambda module, given, output: seen.append(output))
    with torch.no_grad(), trainer.accelerator.autocast():
        trainer.model(**encode(trainer, rows[::G]))  # each prompt once, as they were encoded
    handle.remove()
    (output,) = seen  # by picture
    levels = [torch.cat(output.pooler_output)]
    levels += [torch.cat(level) for level in output.get("deepstack_features") or ()]
    found = zip(*(prompt.features for prompt in trainer._prompts["train"]), strict=True)
    for ours, expected in zip(found, levels, strict=True):
        assert torch.cat(ours).dtype == expected.dtype == torch.bfloat16
        assert torch.equal(torch.cat(ours), expected)


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({}, id="vision frozen"),
        pytest.param({"frozen": False}, id="vision trained"),
        pytest.param({"gradient_checkpointing": True}, id="checkpointed"),
        pytest.param(
            {"name": "Qwen/Qwen2-VL-2B-Instruct", "frozen": False},
            id="Qwen2-VL",
            marks=pytest.mark.slow,
        ),
        pytest.param({"name": "Qwen/Qwen3-VL-4B-Instruct", "frozen": False}, id="Qwen3-VL"),
    ],
)
def test_loss_and_gradient_equal_those_of_repeated_prompts(
    build: Any, settings: dict[str, Any]
) -> None:
    shared, repeated = (
        build(cls, **settings) for cls in (SharedPromptGRPOTrainer, StarGRPOTrainer)
    )
    for trainer in (shared, repeated):  # the reference stays behind, so that the KL takes part
        with torch.no_grad():
            for layer in trainer.model.model.language_model.layers:
                layer.mlp.down_proj.weight.mul_(1.5)
        trainer.model.train()
        trainer.current_gradient_accumulation_steps = 1
    rollouts = shared._generate_and_score_completions(rows_of(shared))
    pictures = encode(repeated, rows_of(repeated))
    zeros = torch.zeros_like(rollouts["completion_ids"], dtype=pictures["mm_token_type_ids"].dtype)
    types = torch.cat([pictures["mm_token_type_ids"], zeros], dim=1)
    inputs = {
        **rollouts,
        "pixel_values": pictures["pixel_values"],
        "image_grid_thw": pictures["image_grid_thw"],
        "mm_token_type_ids": types,
        "num_images": [2] * len(types),
    }
    assert rollouts["advantages"].abs().max() > 0.1
    losses = []
    for trainer in (shared, repeated):
        loss = trainer._compute_loss(trainer.model, inputs)
        loss.backward()
        losses.append(loss.item())
        assert trainer._metrics["train"]["kl"][0] > 1e-6
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)
    scale = max(p.grad.abs().max() for p in repeated.model.parameters() if p.grad is not None)
    for (name, ours), theirs in zip(
        shared.model.named_parameters(), repeated.model.parameters(), strict=True
    ):
        if ours.requires_grad:
            assert ours.grad is not None, name
            assert (ours.grad - theirs.grad).abs().max() < 2e-5 * scale, name


def test_sampling_draws_from_the_log_probs_of_the_plain_forward(build: Any) -> None:
    """The distribution of every step, as seen by a warper, against one pass over the result."""
    trainer = build(SharedPromptGRPOTrainer)
    rows = rows_of(trainer)[::G]
    prompts = encode_prompts(rows, trainer.model.model, trainer.processing_class)
    seen: list[torch.Tensor] = []

    class Recorder(LogitsProcessor):
        def __call__(self, input_ids: Any, scores: torch.Tensor) -> torch.Tensor:
            seen.append(scores.log_softmax(-1))
            return scores

    warp = LogitsProcessorList([Recorder()])
    numbers = torch.rand(G * PROMPTS, LENGTH, generator=torch.Generator().manual_seed(0))
    completions = sample(trainer.model, prompts, GROUP, numbers, [], warp)
    steps = torch.stack(seen, dim=1)  # (U x G, C, V)
    tokens = torch.zeros(len(completions), LENGTH, dtype=torch.long)
    mask = torch.zeros_like(tokens)
    for number, ids in enumerate(completions):
        tokens[number, : len(ids)] = torch.tensor(ids)
        mask[number, : len(ids)] = 1
    with torch.no_grad():
        expected = log_probs_one_by_one(
            trainer, {"completion_ids": tokens, "completion_mask": mask}
        )
    found = steps.gather(2, tokens[:, : steps.shape[1], None])[..., 0]
    kept = torch.cat([row[: len(ids)] for row, ids in zip(found, completions, strict=True)])
    assert (
        len({tuple(ids) for ids in completions}) == G * PROMPTS
    )  # no two can stand in for another
    torch.testing.assert_close(kept, torch.cat(expected), atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["mini", "Qwen/Qwen3-VL-4B-Instruct"])
def test_greedy_sampling_equals_hf_generate(name: str, build: Any) -> None:
    trainer = build(SharedPromptGRPOTrainer, top_k=1, name=name)
    rows = rows_of(trainer)[::G]
    prompts = encode_prompts(rows, trainer.model.model, trainer.processing_class)
    numbers, ends = torch.rand(G * PROMPTS, LENGTH), trainer.eos_token_ids
    found = sample(trainer.model, prompts, GROUP, numbers, ends, warpers(trainer.args))
    inputs = encode(trainer, rows)
    generated = trainer.model.generate(**inputs, do_sample=False, max_new_tokens=LENGTH)
    expected = generated[:, inputs["input_ids"].shape[1] :].tolist()
    assert found == [ids for ids in expected for _ in range(G)]
    assert len({tuple(ids) for ids in expected}) > 1


def test_sampling_stops_at_the_end_token_and_follows_the_seed(build: Any) -> None:
    trainer = build(SharedPromptGRPOTrainer)
    rows = [trainer.train_dataset[prompt] for prompt in range(PROMPTS)]
    prompts = encode_prompts(rows, trainer.model.model, trainer.processing_class)
    ends = list(range(0, len(trainer.processing_class.tokenizer), 8))  # an eighth of all tokens

    def draw(seed: int) -> list[list[int]]:
        numbers = torch.rand(G * PROMPTS, 40, generator=torch.Generator().manual_seed(seed))
        return sample(trainer.model, prompts, GROUP, numbers, ends, warpers(trainer.args))

    completions = draw(0)
    assert len({tuple(ids) for ids in completions}) > 1
    for ids in completions:
        assert not set(ids[:-1]) & set(ends)
        assert ids[-1] in ends or len(ids) == 40
    assert draw(0) == draw(0) != draw(1)


def test_completions_do_not_depend_on_what_is_sampled_beside_them(
    build: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Alone, in a batch, and whether stopped rows are dropped at once or never."""
    trainer = build(SharedPromptGRPOTrainer)
    rows = [trainer.train_dataset[prompt] for prompt in range(PROMPTS)]
    prompts = encode_prompts(rows, trainer.model.model, trainer.processing_class)
    ends = list(range(0, len(trainer.processing_class.tokenizer), 8))
    numbers = torch.rand(G * PROMPTS, 40, generator=torch.Generator().manual_seed(0))
    warp = warpers(trainer.args)
    batches = []
    for threshold in (0.0, 0.75, 1.0):
        monkeypatch.setattr(sampling, "COMPACT_BELOW", threshold)
        batches.append(sample(trainer.model, prompts, GROUP, numbers, ends, warp))
    alone = [
        sample(trainer.model, [prompts[n]], torch.tensor([0]), numbers[row : row + 1], ends, warp)
        for row, n in enumerate(GROUP.tolist())
    ]
    assert len({len(ids) for ids in batches[0]}) > 3
    assert batches[0] == batches[1] == batches[2] == [ids for (ids,) in alone]


def test_a_batch_without_any_token_to_learn_from(build: Any) -> None:
    """``mask_truncated_completions`` may leave none; the loss is then zero, and so its gradient."""
    trainer = build(SharedPromptGRPOTrainer)
    trainer.model.train()
    trainer.current_gradient_accumulation_steps = 1
    inputs = trainer._generate_and_score_completions(rows_of(trainer))
    inputs["completion_mask"] = torch.zeros_like(inputs["completion_mask"])
    loss = trainer._compute_loss(trainer.model, inputs)
    loss.backward()
    assert loss.item() == 0
    grads = [p.grad for p in trainer.model.model.language_model.parameters()]
    assert all(grad is not None and not grad.any() for grad in grads)


def test_pictures_reach_rewards_and_logs_as_from_trl(build: Any) -> None:
    given: list[Any] = []

    def look(prompts: Any, completions: Any, images: Any, **columns: Any) -> list[float]:
        given.append((prompts, images))
        return [0.0] * len(completions)

    logged = []
    for cls in TRAINERS:
        trainer = build(cls, reward=look)
        trainer._generate_and_score_completions(rows_of(trainer))
        logged.append((list(trainer._logs["images"]), list(trainer._logs["completion"])))
        assert len(trainer._logs["prompt"]) == G * PROMPTS
    (prompts, images), (plain_prompts, plain_images) = given
    assert images == plain_images == logged[0][0] == logged[1][0]
    assert prompts == plain_prompts
    assert images[0] != images[-1]
    shared = build(SharedPromptGRPOTrainer, log_multimodal=False)
    shared._generate_and_score_completions(rows_of(shared))
    assert not shared._logs["images"]


def test_groups_stay_together_in_the_parts_of_a_generation_batch(build: Any) -> None:
    trainer = build(SharedPromptGRPOTrainer, steps_per_generation=2, gradient_accumulation_steps=2)
    trainer.model.train()
    rows = [trainer.train_dataset[n] for n in range(2 * PROMPTS) for _ in range(G)]
    parts = []
    for step in (0, 1):
        trainer._step = step
        parts.append(trainer._prepare_inputs(rows)["group"].tolist())
    assert parts == [GROUP.tolist(), (GROUP + PROMPTS).tolist()]


@pytest.mark.parametrize("cls", TRAINERS)
def test_importance_ratio_is_one_on_the_first_iteration(cls: type, build: Any) -> None:
    trainer = build(cls, num_iterations=2)
    trainer.model.train()
    trainer.current_gradient_accumulation_steps = 1
    inputs = trainer._prepare_inputs(rows_of(trainer))
    ratios = []
    score = trainer._get_per_token_logps_and_entropies

    def spy(*args: Any, **kwargs: Any) -> Any:
        output = score(*args, **kwargs)
        ratios.append((output[0] - inputs["old_per_token_logps"]).exp())
        return output

    trainer._get_per_token_logps_and_entropies = spy
    trainer._compute_loss(trainer.model, inputs)
    (ratio,) = ratios
    assert (ratio[inputs["completion_mask"].bool()] - 1).abs().max() < 1e-5


def love_vision_tokens(trainer: Any, rows: list[dict[str, Any]]) -> list[int]:
    """Make the image and video placeholders by far the likeliest first tokens; returns them."""
    model = trainer.model
    ids = [model.config.image_token_id, model.config.video_token_id]
    states = model.model(**encode(trainer, rows)).last_hidden_state[:, -1].detach()
    with torch.no_grad():
        model.get_output_embeddings().weight[ids] = 5 * states.mean(0)
    return ids


@pytest.mark.parametrize(
    ("cls", "fault"), [(cls, False) for cls in TRAINERS] + [(GRPOTrainer, True)]
)
def test_vision_tokens_are_never_sampled_at_temperature_one(
    cls: type, fault: bool, build: Any
) -> None:
    """TRL 1.16 by itself suppresses the image placeholder, but not the video placeholder."""
    trainer = build(cls, beta=0.0) if fault else build(cls)
    rows = rows_of(trainer)
    forbidden = love_vision_tokens(trainer, rows)
    rollouts = trainer._generate_and_score_completions(rows)
    assert bool(torch.isin(rollouts["completion_ids"], torch.tensor(forbidden)).any()) is fault


@pytest.mark.parametrize("cls", TRAINERS)
def test_model_in_memory_has_its_reference(cls: type, build: Any) -> None:
    trainer = build(cls, beta=0.04)
    assert trainer.model.config._name_or_path == ""
    assert "lm_head.bias" not in trainer.model.state_dict()
    for ours, reference in zip(
        trainer.model.parameters(), trainer.ref_model.parameters(), strict=True
    ):
        assert ours is not reference
        assert torch.equal(ours, reference)


@pytest.mark.parametrize("cls", TRAINERS)
def test_constant_reward_moves_nothing(cls: type, build: Any) -> None:
    """No advantage, and the KL to the reference has no slope where they are equal."""

    def constant(completions: list[Any], **columns: Any) -> list[float]:
        return [2.0] * len(completions)

    moved = []
    for reward in (constant, letters):
        trainer = build(cls, reward=reward, max_steps=2, learning_rate=1e-2, save_strategy="no")
        before = [parameter.clone() for parameter in trainer.model.parameters()]
        trainer.train()
        after = trainer.model.parameters()
        moved.append(any(not torch.equal(a, b) for a, b in zip(before, after, strict=True)))
    assert moved == [False, True]
