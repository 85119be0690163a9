"""Sampling with vLLM; vLLM itself runs in the environment that STAR_R1_VLLM_PYTHON names."""

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from peft import LoraConfig
from PIL import Image
from tests.fake_vllm import FakeVLLM, colocated
from tests.tiny import make_tiny
from trl import GRPOConfig

from star_r1.errors import UserError
from star_r1.model.loading import load_model
from star_r1.model.mini import build_model
from star_r1.model.processor import build_processor
from star_r1.train import grpo
from star_r1.train.grpo import SharedPromptGRPOTrainer, prompts_of
from star_r1.train.vllm import as_seen, placeholders

HERE = Path(__file__).parent
PICTURE, VIDEO = 5, 6
SIZES = {"hidden_size": 64, "layers": 2, "vision_hidden_size": 32, "vision_depth": 1}
CONTEXT, COMPLETION = 400, 4
LORA = r".*(language_model.*(q|k|v|o|gate|up|down)_proj|visual.*(qkv|proj))$"


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 4)), max_size=12))
def test_placeholders_undo_what_the_processor_did(tokens: list[tuple[int, int]]) -> None:
    """Words may repeat; between two pictures there is a token, as in Qwen's prompts."""
    short, long = [], []
    for token, times in tokens:
        if token in (PICTURE, VIDEO):
            short += [8, token, 9]
            long += [8, *[token] * times, 9]
        else:
            short += [token] * times
            long += [token] * times
    assert placeholders([long, short], {PICTURE, VIDEO}) == [short, short]


@pytest.mark.parametrize("size", [(160, 120), (320, 240), (37, 59), (8, 8)])
def test_pictures_are_as_the_processor_would_make_them(size: tuple[int, int]) -> None:
    processor = build_processor().image_processor
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    picture = Image.fromarray(noise)
    (seen,) = as_seen([picture], processor)
    assert (seen is picture) == (size == (160, 120))
    direct, resized = processor([picture]), processor([seen])
    assert np.array_equal(direct["image_grid_thw"], resized["image_grid_thw"])
    assert np.array_equal(direct["pixel_values"], resized["pixel_values"])


# 1. What is refused ------------------------------------------------------------------------------

CORRECTED = "--vllm_importance_sampling_correction would take"
OFF = "--vllm_importance_sampling_correction false"
MASK = f"{OFF} --off_policy_mask_threshold 1"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--top_p 0.9", f"--top_p 0.9 with --use_vllm: .* {CORRECTED}"),
        ("--top_k 50 --min_p 0.1", f"--top_k 50, --min_p 0.1 with --use_vllm: .* {CORRECTED}"),
        ("--repetition_penalty 1.05", CORRECTED),
        ("--vllm_structured_outputs_regex a+", CORRECTED),
        ('--generation_kwargs {"presence_penalty":1}', CORRECTED),
        ('--generation_kwargs {"logit_bias":{"7":1}}', CORRECTED),
        (f"--top_p 0.9 {MASK}", "--off_policy_mask_threshold would take"),
        (f'{OFF} --generation_kwargs {{"seed":0}}', "--generation_kwargs seed: with --use_vllm"),
        (f'{OFF} --generation_kwargs {{"logprobs":5}}', "--generation_kwargs logprobs: with"),
        (f'{OFF} --generation_kwargs {{"top_p":0.9,"n":2}}', "--generation_kwargs top_p, n: with"),
    ],
)
def test_plan_and_run_refuse_what_the_trainer_would_not_compute(
    flags: str,
    message: str,
    data_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = ["--data", str(data_folder), "--output_dir", str(tmp_path / "run"), "--use_cpu"]
    given += ["--use_vllm", "--report_to", "none", *flags.split()]
    with pytest.raises(UserError, match=message) as raised:
        grpo.main(given)
    assert not (tmp_path / "run").exists()
    assert grpo.main([*given, "--dry-run"]) == 2
    assert capsys.readouterr().err == f"error: {raised.value}\n"


@pytest.mark.parametrize(
    "flags",
    [
        "--temperature 0.9 --top_k 0 --top_p 1",
        f"--top_p 0.9 --top_k 50 --min_p 0.1 {OFF}",
        '--generation_kwargs {"stop":["</answer>"],"stop_token_ids":[5]}',
        f'--generation_kwargs {{"presence_penalty":1}} {OFF}',
    ],
)
def test_what_both_compute_alike_is_taken(
    flags: str, data_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--data", str(data_folder), "--output_dir", str(tmp_path), "--use_vllm", "--use_cpu"]
    assert grpo.main([*given, "--report_to", "none", *flags.split(), "--dry-run"]) == 0


# 2. What is handed over --------------------------------------------------------------------------


def letters(completions: list[Any], **columns: Any) -> list[float]:
    return [float(len(set(completion[0]["content"]))) for completion in completions]


Build = Callable[..., Any]


@pytest.fixture
def build(data_folder: Path, tmp_path: Path) -> Build:
    """Builds a trainer whose vLLM is a fake one, in bfloat16."""

    def build(
        adapter: LoraConfig | None = None, dtype: Any = torch.bfloat16, **settings: Any
    ) -> Any:
        args = GRPOConfig(
            str(tmp_path),
            per_device_train_batch_size=4,
            num_generations=2,
            max_completion_length=COMPLETION,
            use_vllm=True,
            use_cpu=True,
            bf16=False,
            report_to="none",
            beta=0.0,
            **settings,
        )
        return SharedPromptGRPOTrainer(
            build_model(seed=0, **SIZES).to(dtype),
            letters,
            args,
            train_dataset=prompts_of(str(data_folder), ["center"]),
            processing_class=build_processor(),
            peft_config=adapter,
        )

    return build


def engine(monkeypatch: pytest.MonkeyPatch, **given: Any) -> FakeVLLM:
    return colocated(monkeypatch, build_model(0, **SIZES).config.image_token_id, **given)


def test_merging_an_adapter_leaves_the_base_as_it_is(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    """huggingface/trl#6688: TRL merges into the base and takes the rounded sum apart again."""
    fake = engine(monkeypatch, repeat=4)
    trainer = build(LoraConfig(target_modules=LORA, r=4))
    model = trainer.model
    adapters = {n: p for n, p in model.named_parameters() if "lora_" in n}
    base = {n: p.clone() for n, p in model.named_parameters() if n not in adapters}
    assert {p.dtype for p in base.values()} == {torch.bfloat16}
    for step in range(20):
        with torch.no_grad():
            torch.manual_seed(step)
            for parameter in adapters.values():
                parameter.normal_(std=0.05)
        trainer.vllm_generation.sync_weights()
    for name, parameter in model.named_parameters():
        assert name in adapters or torch.equal(parameter, base[name]), name
    plain = build_model(seed=0, **SIZES)
    assert set(fake.weights) == {name for name, _ in plain.named_parameters()}
    model.merge_adapter()
    merged = model.get_base_model().state_dict()
    for name, weight in fake.weights.items():
        prefix, _, kind = name.rpartition(".")
        expected = merged.get(f"{prefix}.base_layer.{kind}", merged.get(name))
        assert torch.equal(weight, expected), name
    changed = [
        name
        for name, weight in fake.weights.items()
        if not torch.equal(weight, plain.state_dict()[name].bfloat16())
    ]
    assert len(changed) == len(adapters) / 2


@pytest.mark.parametrize(
    "adapter",
    [
        LoraConfig(target_modules=LORA, use_dora=True),
        LoraConfig(target_modules=r".*language_model.*q_proj$", lora_bias=True),
    ],
    ids=["DoRA", "bias"],
)
def test_an_adapter_that_is_more_than_a_difference_is_refused(
    adapter: LoraConfig, build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine(monkeypatch, repeat=4)
    with pytest.raises(UserError, match="--use_vllm takes plain LoRA adapters only"):
        build(adapter)


def test_vllm_forgets_what_it_saw_with_the_old_weights(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    """huggingface/trl#7198: features of pictures are kept by the hash of the picture alone."""
    fake = engine(monkeypatch, repeat=4)
    trainer = build()
    trainer.vllm_generation.sync_weights()
    assert fake.calls[-1] == "reset_encoder_cache"
    assert fake.calls.index("reset_encoder_cache") > fake.calls.index("load_weights")


def test_prompts_that_vllm_reads_otherwise_end_the_run(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = engine(monkeypatch, repeat=4)
    trainer = build()
    rows = [trainer.train_dataset[prompt] for prompt in (0, 0, 1, 1)]
    trainer._generate_and_score_completions(rows)
    fake.repeat = 6
    with pytest.raises(UserError, match=r"vLLM makes \d+ tokens .* --min_pixels or --max_pixels"):
        trainer._generate_and_score_completions(rows)


def test_a_completion_that_vllm_would_cut_short_ends_the_run(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = engine(monkeypatch, repeat=4)
    trainer = build()
    rows = [trainer.train_dataset[prompt] for prompt in (0, 0, 1, 1)]
    output = trainer._generate_and_score_completions(rows)
    longest = int(output["prompt_mask"].sum(1).max()) + COMPLETION
    for room in (longest, longest - 1):
        fake.llm_engine.model_config.max_model_len = room
        trainer.vllm_generation.adopt(trainer.args)
        if room == longest:
            trainer._generate_and_score_completions(rows)
        else:
            with pytest.raises(UserError, match=f"take {longest} tokens, and vLLM has room for"):
                trainer._generate_and_score_completions(rows)


class Server:
    """As much of TRL's client of a vLLM server as it takes to hand it weights."""

    def __init__(self, logprobs_mode: str) -> None:
        self.mode, self.calls = logprobs_mode, list[str]()
        self.base_url = "http://server"
        answer = SimpleNamespace(raise_for_status=lambda: None)
        self.session = SimpleNamespace(post=lambda url: self.calls.append(url) or answer)

    def get_server_info(self) -> dict[str, Any]:
        return {"model_config": {"logprobs_mode": self.mode, "max_model_len": CONTEXT}}

    def update_named_params(self, metadata: Any, named: Any) -> None:
        self.calls.append(f"{len(list(named))} weights")

    def reset_prefix_cache(self) -> None:
        self.calls.append("reset_prefix_cache")


def serve(monkeypatch: pytest.MonkeyPatch, logprobs_mode: str) -> Server:
    server = Server(logprobs_mode)
    monkeypatch.setattr(
        "trl.generation.vllm_generation.VLLMGeneration._init_vllm",
        lambda self: setattr(self, "vllm_client", server),
    )
    return server


def test_a_server_forgets_too(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    server = serve(monkeypatch, "processed_logprobs")
    trainer = build(vllm_mode="server")
    trainer.vllm_generation.sync_weights()
    weights = len(list(trainer.model.parameters()))
    assert server.calls == [
        f"{weights} weights",
        "reset_prefix_cache",
        "http://server/reset_encoder_cache",
    ]


@pytest.mark.parametrize("corrected", [True, False])
def test_a_server_that_reports_other_numbers_is_refused(
    corrected: bool, build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(monkeypatch, "raw_logprobs")
    settings = {"vllm_mode": "server", "vllm_importance_sampling_correction": corrected}
    if corrected:
        with pytest.raises(UserError, match="the vLLM server runs with --logprobs-mode raw_logp"):
            build(**settings)
    else:
        build(**settings)


def test_a_server_that_sees_other_pictures_is_refused(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(monkeypatch, "processed_logprobs")
    trainer = build(vllm_mode="server")
    image = trainer.model.config.image_token_id
    features = {"mm_placeholders": {"image": [{"offset": 2, "length": 4}]}}
    placed = trainer.vllm_generation._place_features(features, [1, *[image] * 4, 2])
    assert placed["mm_placeholders"]["image"] == [{"offset": 1, "length": 4}]
    with pytest.raises(UserError, match="vLLM makes 4 tokens of what the trainer makes 3 of"):
        trainer.vllm_generation._place_features(features, [1, *[image] * 3, 2])


# 3. vLLM itself ----------------------------------------------------------------------------------

RECIPES = [
    recipe
    for path in sorted((HERE.parents[1] / "recipes").glob("*-grpo*.yaml"))
    if (recipe := yaml.safe_load(path.read_text())).get("use_vllm")
]
SETTINGS = [{name: r[name] for name in ("temperature", "top_p", "top_k")} for r in RECIPES]


def sharp(folder: Path) -> Path:
    """Let the layers and what they see matter to what follows; at its initial size little does."""
    model = load_model(str(folder))
    with torch.no_grad():
        for parameter in model.model.language_model.layers.parameters():
            parameter.mul_(4)
        for weight in {model.get_input_embeddings().weight, model.get_output_embeddings().weight}:
            weight.mul_(20)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(
    scope="module",
    params=[
        "mini",
        "Qwen/Qwen2-VL-2B-Instruct",
        "Qwen/Qwen2.5-VL-3B-Instruct",
        "Qwen/Qwen3-VL-2B-Instruct",
    ],
)
def found(
    request: pytest.FixtureRequest, data_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """What vllm_child measured on the embedded model, or on a tiny one of random weights."""
    python = os.environ.get("STAR_R1_VLLM_PYTHON")
    if not python:
        pytest.skip("STAR_R1_VLLM_PYTHON names no Python that has vLLM")
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(HERE / "vllm_site"), str(HERE.parents[1] / "src")]),
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_LOGGING_LEVEL": "ERROR",
        "HF_HUB_OFFLINE": "1",
    }
    folder = tmp_path_factory.mktemp("vllm")
    name = request.param
    model = name if name == "mini" else sharp(make_tiny(folder / "model", name))
    run = subprocess.run(
        [python, HERE / "vllm_child.py", model, data_folder, folder, json.dumps(SETTINGS)],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr[-4000:]
    result: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
    return {"model": name, **result}


@pytest.mark.vllm
def test_vllm_loads_an_exported_model_and_answers_like_transformers(found: Any) -> None:
    pairs = list(zip(found["greedy"]["vLLM"], found["greedy"]["transformers"], strict=True))
    differ = sum(theirs != ours for theirs, ours in pairs)
    # Random weights all but tie here and there, and then the order of summation decides.
    assert differ <= (0 if found["model"] == "mini" else 1)
    assert len({tuple(ids) for ids, _ in pairs}) > 1


@pytest.mark.vllm
def test_colocated_vllm_expands_pictures_twice_without_the_guard(found: Any) -> None:
    """huggingface/trl#6294. When this fails, TRL has mended it: ``placeholders`` can go."""
    prompt, seen = found["TRL"]["prompt"], found["TRL"]["in vLLM"]
    assert all(there > here for here, there in zip(prompt, seen, strict=True))
    low, high = found["TRL"]["ratio"]
    assert low < 0.9
    assert high > 1.01


@pytest.mark.vllm
@pytest.mark.parametrize(
    "case",
    [
        *("guarded", "guarded, shared prompts", "guarded, pictures loved"),
        *("another tower", "an adapter"),
    ],
)
def test_vllm_samples_from_the_policy_with_the_guard(case: str, found: Any) -> None:
    """Prompts of the same length, and ratios of one, also after the weights have moved."""
    assert found[case]["in vLLM"] == found[case]["prompt"]
    assert found[case]["ratio"] == pytest.approx([1, 1], abs=1e-3)
    assert found[case]["vision tokens"] == 0


@pytest.mark.vllm
def test_vllm_samples_vision_tokens_without_the_bias(found: Any) -> None:
    assert found["drawn without the bias"] > 0


@pytest.mark.vllm
def test_ratios_with_the_sampling_of_every_recipe_are_one(found: Any) -> None:
    assert len(found["settings"]) >= 3
    for output in found["settings"]:
        assert output["ratio"] == pytest.approx([1, 1], abs=1e-3)


@pytest.mark.vllm
def test_ratios_with_a_nucleus_are_not(found: Any) -> None:
    """huggingface/trl#6789, and why ``faults`` refuses it."""
    assert found["nucleus"]["ratio"][0] < 0.95


@pytest.mark.vllm
def test_vllm_keeps_features_of_an_older_tower_without_the_guard(found: Any) -> None:
    """huggingface/trl#7198. When this fails, TRL has mended it: ``sync_weights`` can go."""
    low, high = found["another tower, TRL's sync"]["ratio"]
    assert high - low > 0.01


@pytest.mark.vllm
def test_twenty_syncs_of_an_adapter_leave_the_base_as_it_is(found: Any) -> None:
    assert found["base"] == 0


@pytest.mark.vllm
def test_limits_of_size_that_vllm_does_not_have_are_noticed(found: Any) -> None:
    assert "vLLM makes" in found["other limits"]
