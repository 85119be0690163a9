"""Adapters that a run starts from; and that all commands mean the same by the name of a model."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from peft import LoHaConfig, LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText

from star_r1.data.dataset import load
from star_r1.errors import UserError
from star_r1.evaluate import local
from star_r1.evaluate.local import LocalModel
from star_r1.evaluate.questions import ask, fingerprint
from star_r1.model.loading import load_model
from star_r1.model.mini import build_model
from star_r1.train import grpo, sft

SIZE = "--num_generations 4 --per_device_train_batch_size 8 --max_completion_length 8"
FLAGS = f"--use_cpu --report_to none --learning_rate 1e-2 --max_steps 2 {SIZE} --reward letters"
SFT = "--use_cpu --report_to none --learning_rate 1e-2 --max_steps 3"
EVERYWHERE = ".*(q_proj|merger.mlp.0)$"


@pytest.fixture(scope="module")
def adapter(
    model_folder: Path, data_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """What 'train sft --use_peft' leaves."""
    out = tmp_path_factory.mktemp("adapters") / "sft"
    folders = f"--model {model_folder} --data {data_folder} --output_dir {out}"
    assert sft.main([*folders.split(), *SFT.split(), "--use_peft", "--save_steps", "1"]) == 0
    return out


class Recorder:
    """The trainer of a run, and what it sampled and rewarded."""

    trainer: Any
    said: list[list[str]]

    def __init__(self) -> None:
        self.said = []


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    found = Recorder()

    def letters(completions: list[Any], **columns: Any) -> list[float]:
        texts = [completion[0]["content"] for completion in completions]
        found.said.append(texts)
        return [float(len(set(text))) for text in texts]

    for module in (grpo, sft):
        run: Callable[..., int] = module.run

        def keep(trainer: Any, *args: Any, run: Callable[..., int] = run) -> int:
            found.trainer = trainer
            return run(trainer, *args)

        monkeypatch.setattr(module, "run", keep)
    monkeypatch.setitem(grpo.REWARDS, "letters", letters)
    return found


def entries(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "log.jsonl").open()]


def logits(model: Any) -> torch.Tensor:
    """Of two texts."""
    torch.manual_seed(0)
    ids = torch.randint(5, 60, (2, 20))
    model.eval()
    with torch.no_grad():
        return model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits  # type: ignore[no-any-return]


def train(main: Callable[[list[str]], int], model: Path, data: Path, out: Path, flags: str) -> int:
    return main([*f"--model {model} --data {data} --output_dir {out}".split(), *flags.split()])


@pytest.mark.parametrize("shared", [True, False], ids=["shared", "TRL"])
def test_grpo_goes_on_from_the_adapter_of_sft(
    shared: bool, adapter: Path, data_folder: Path, tmp_path: Path, recorded: Recorder
) -> None:
    out = tmp_path / "grpo"
    flags = f"{FLAGS} --use_peft --temperature 1 --share_prompts {shared}"
    assert train(grpo.main, adapter, data_folder, out, flags) == 0
    first, *_ = entries(out)
    assert first["kl"] == pytest.approx(0, abs=1e-9)
    assert entries(out)[1]["kl"] > 1e-6

    start, end = (load_file(run / "adapter_model.safetensors") for run in (adapter, out))
    assert start.keys() == end.keys()
    assert any(not torch.equal(start[name], end[name]) for name in start)
    assert not any(path.is_dir() and path.name == "ref" for path in out.rglob("*"))

    base = json.loads((adapter / "adapter_config.json").read_text())["base_model_name_or_path"]
    plain = AutoModelForImageTextToText.from_pretrained(base)
    plain = PeftModel.from_pretrained(plain, out).get_base_model()
    trained = recorded.trainer.model.get_base_model()
    trained.get_output_embeddings().never.zero_()  # what no export holds
    assert torch.equal(logits(plain), logits(trained))

    record = json.loads((out / "training.json").read_text())
    assert (record["base_model"], record["started_from"]) == (base, str(adapter))
    assert "| started from | the LoRA adapter sft of it, trained on |" in (
        (out / "README.md").read_text()
    )


def test_the_first_rollout_is_what_the_adapted_model_says(
    adapter: Path,
    data_folder: Path,
    tmp_path: Path,
    recorded: Recorder,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    flags = f"{FLAGS} --use_peft --temperature 1 --max_steps 1"
    assert train(grpo.main, adapter, data_folder, tmp_path / "grpo", flags) == 0
    (table,) = (tmp_path / "grpo" / "completions").glob("*.parquet")
    rows = pq.read_table(table).to_pylist()
    # evaluation also keeps from sampling the tokens around a picture, which a random model does
    monkeypatch.setattr(local, "_VISION_TOKENS", {"image_token_id", "video_token_id"})
    model = LocalModel.load(str(adapter), temperature=1.0, max_new_tokens=8, seed=42)
    names = {row["id"] for row in rows}
    chosen = load(data_folder).filter(lambda name: name in names, input_columns="id")
    questions = ask(chosen, fingerprint(chosen), samples_per_prompt=4)
    expected = sorted((one.id, one.text) for one in model.predict(questions))
    said = sorted((row["id"], row["completion"][0]["content"]) for row in rows)
    assert said == expected


def test_without_use_peft_the_merged_weights_are_trained(
    adapter: Path, data_folder: Path, tmp_path: Path, recorded: Recorder
) -> None:
    out = tmp_path / "grpo"
    assert train(grpo.main, adapter, data_folder, out, FLAGS) == 0
    first, *_ = entries(out)
    assert first["kl"] == pytest.approx(0, abs=1e-9)
    start, end = (load_model(str(run)).state_dict() for run in (adapter, out))
    still = "model.visual.merger.mlp.0.weight"
    assert torch.equal(start[still], end[still])
    name = "model.language_model.layers.0.self_attn.{}_proj.weight"
    base = start[name.format("q").replace(".weight", ".base_layer.weight")]
    assert 0 < (end[name.format("q")] - base).abs().max() < 1
    assert not torch.equal(start[name.format("k")], end[name.format("k")])
    assert "merged into the base model first" in (out / "README.md").read_text()


@pytest.mark.parametrize("peft", ["--use_peft", ""], ids=["trained on", "merged"])
def test_sft_goes_on_from_an_adapter(
    peft: str, adapter: Path, data_folder: Path, tmp_path: Path, recorded: Recorder
) -> None:
    flags = f"{SFT} {peft} --max_steps 1 --logging_steps 1 --learning_rate 1e-9"
    assert train(sft.main, adapter, data_folder, tmp_path / "sft", flags) == 0
    start, end = (load_model(str(run)) for run in (adapter, tmp_path / "sft"))
    torch.testing.assert_close(logits(start), logits(end), atol=1e-5, rtol=0)
    base = AutoModelForImageTextToText.from_pretrained(start.name_or_path)
    assert (logits(base) - logits(end)).abs().max() > 1e-3


@pytest.fixture(scope="module")
def whole_modules(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter of PEFT, by no command of ours: in the vision tower too, with whole modules."""
    torch.manual_seed(0)
    config = LoraConfig(
        r=2,
        target_modules=EVERYWHERE,
        modules_to_save=["lm_head", "norm"],
        init_lora_weights=False,
        lora_dropout=0.5,
    )
    wrapped = get_peft_model(load_model(str(model_folder)), config)
    with torch.no_grad():
        for name, weight in wrapped.named_parameters():
            if "modules_to_save" in name:
                weight.add_(0.01 * torch.randn_like(weight))
    folder = tmp_path_factory.mktemp("whole")
    wrapped.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("shared", [True, False], ids=["shared", "TRL"])
def test_an_adapter_with_whole_modules_goes_on(
    shared: bool, whole_modules: Path, data_folder: Path, tmp_path: Path, recorded: Recorder
) -> None:
    """The base is tied to its output layer, the adapter is not."""
    flags = f"{FLAGS} --use_peft --freeze_vision false --share_prompts {shared} --lora_r 2"
    out = tmp_path / "out"
    assert train(grpo.main, whole_modules, data_folder, out, flags) == 0
    assert entries(out)[0]["kl"] == pytest.approx(0, abs=1e-9)
    start, end = (load_file(run / "adapter_model.safetensors") for run in (whole_modules, out))
    assert start.keys() == end.keys()
    changed = {name for name in start if not torch.equal(start[name], end[name])}
    assert any("lm_head" in name for name in changed)
    assert any("visual" in name for name in changed)
    trained = recorded.trainer.model.get_base_model()
    trained.get_output_embeddings().never.zero_()
    torch.testing.assert_close(logits(load_model(str(out))), logits(trained), atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--use_peft --lora_r 3", "--lora_r 3: the adapter .*, which is trained on, has 16"),
        ("--use_peft --lora_alpha 3", "--lora_alpha 3: the adapter .* has 32; give that"),
        ("--use_peft --lora_target_modules .*k_proj", "is of other modules; leave it off"),
        ("--use_peft --lora_target_modules *k_proj", "'[*]k_proj': nothing to repeat"),
        ("--use_peft --freeze_vision false", "none of it is in the vision tower"),
        ("--model {whole} --use_peft", "reaches into the vision tower"),
        ("--model {base} --use_peft --lora_target_modules all-linear", "into the vision tower"),
        ("--model {base} --use_peft --lora_target_modules *k_proj", "nothing to repeat"),
        ("--model {base} --use_peft --lora_target_modules lm_head", "on lm_head cannot be"),
        ("--model {base} --use_peft --lora_target_modules .*norm", "is not supported"),
    ],
)
def test_plan_and_run_refuse_alike(
    flags: str,
    message: str,
    adapter: Path,
    whole_modules: Path,
    model_folder: Path,
    data_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = f"{FLAGS} {flags}".replace("letters", "star")
    given = given.format(whole=whole_modules, base=model_folder)
    assert train(grpo.main, adapter, data_folder, tmp_path / "out", f"{given} --dry-run") == 2
    (line,) = capsys.readouterr().err.splitlines()
    with pytest.raises(UserError, match=message) as refused:
        train(grpo.main, adapter, data_folder, tmp_path / "out", given)
    assert line == f"error: {refused.value}"


KINDS = {
    # how to make it -> what every command says of it; nothing where they take it
    "full": "",
    "checkpoint of a full run": "",
    "adapter": "",
    "checkpoint of an adapter": "",
    "mini": "",
    "adapter of another installation's mini": "",
    "adapter without a processor": "",
    "model on the Hub": "",
    "adapter on the Hub": "",
    "adapter whose base has moved": "its base model is missing: there is no folder",
    "adapter of another kind": "of type LOHA; only LoRA adapters are known",
    "adapter of another architecture": "does not fit .*: size mismatch",
    "adapter of other modules": "does not fit .*: Target modules .* not found",
    "adapter without weights": "does not load",
    "half an adapter_config.json": "adapter_config.json is not JSON",
    "empty adapter_config.json": "names no peft_type",
    "adapter without a base": "names no base_model_name_or_path",
    "adapter on an adapter": "holds no config.json, so no full weights",
    "adapter of no rank": "r is 'x' in adapter_config.json",
    "adapter of rank zero": "`r` should be a positive integer",
    "run that has not ended": "no config.json, so not a model folder; give one of its checkpoints",
    "nothing there": "no such folder; give a model folder",
}


def make(kind: str, base: Path, adapter: Path, folder: Path, cache: Path) -> str:
    """A model of this kind; its name."""

    def edited(**changes: Any) -> str:
        shutil.copytree(adapter, folder, ignore=shutil.ignore_patterns("checkpoint-*"))
        config = json.loads((folder / "adapter_config.json").read_text())
        (folder / "adapter_config.json").write_text(json.dumps(config | changes))
        return str(folder)

    def on_hub(name: str, files: Path) -> str:
        repository = cache / f"models--{name.replace('/', '--')}"
        (repository / "refs").mkdir(parents=True)
        (repository / "refs" / "main").write_text("0" * 40)
        ignored = shutil.ignore_patterns("checkpoint-*")
        shutil.copytree(files, repository / "snapshots" / ("0" * 40), ignore=ignored)
        return name

    if kind == "full":
        return str(base)
    if kind == "checkpoint of a full run":
        shutil.copytree(base, folder / "checkpoint-3")
        return str(folder / "checkpoint-3")
    if kind == "adapter":
        return str(adapter)
    if kind == "checkpoint of an adapter":
        return str(adapter / "checkpoint-2")
    if kind == "mini":
        return "mini"
    if kind == "adapter of another installation's mini":
        config = LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM")
        get_peft_model(load_model("mini"), config).save_pretrained(folder)
        config = json.loads((folder / "adapter_config.json").read_text())
        config["base_model_name_or_path"] = "/elsewhere/star_r1/model/weights"
        (folder / "adapter_config.json").write_text(json.dumps(config))
        return str(folder)
    if kind == "adapter without a processor":
        edited()
        for path in folder.glob("*processor*"):
            path.unlink()
        return str(folder)
    if kind == "model on the Hub":
        return on_hub("some/model", base)
    if kind == "adapter on the Hub":
        on_hub("some/model", base)
        return on_hub("some/adapter", Path(edited(base_model_name_or_path="some/model")))
    if kind == "adapter whose base has moved":
        return edited(base_model_name_or_path="/gone/runs/sft")
    if kind == "adapter of another kind":
        config = LoHaConfig(target_modules=["q_proj"], r=2)
        get_peft_model(load_model(str(base)), config).save_pretrained(folder)
        return str(folder)
    if kind == "adapter of another architecture":
        build_model(hidden_size=96).save_pretrained(folder / "other")
        return edited_elsewhere(adapter, folder / "adapter", folder / "other")
    if kind == "adapter of other modules":
        return edited(target_modules=["c_attn"])
    if kind == "adapter without weights":
        edited()
        (folder / "adapter_model.safetensors").write_bytes(b"x" * 9)
        return str(folder)
    if kind == "half an adapter_config.json":
        edited()
        (folder / "adapter_config.json").write_text('{"peft_type": "LO')
        return str(folder)
    if kind == "empty adapter_config.json":
        edited()
        (folder / "adapter_config.json").write_text("{}")
        return str(folder)
    if kind == "adapter without a base":
        return edited(base_model_name_or_path=None)
    if kind == "adapter on an adapter":
        return edited(base_model_name_or_path=str(adapter))
    if kind == "adapter of no rank":
        return edited(r="x")
    if kind == "adapter of rank zero":
        return edited(r=0)
    if kind == "run that has not ended":
        shutil.copytree(base, folder / "checkpoint-3")
        return str(folder)
    return str(folder)


def edited_elsewhere(adapter: Path, folder: Path, base: Path) -> str:
    shutil.copytree(adapter, folder, ignore=shutil.ignore_patterns("checkpoint-*"))
    config = json.loads((folder / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = str(base)
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return str(folder)


SLOW = (
    *("checkpoint of a full run", "adapter of another installation's mini"),
    *("adapter without a processor", "model on the Hub"),
)


@pytest.mark.parametrize(
    "kind",
    [pytest.param(kind, marks=[pytest.mark.slow] if kind in SLOW else []) for kind in KINDS],
)
def test_every_command_takes_the_same_models(
    kind: str,
    adapter: Path,
    model_folder: Path,
    data_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    cache = tmp_path / "cache"
    for place in ("huggingface_hub.constants.HF_HUB_CACHE", "transformers.utils.hub.HF_HUB_CACHE"):
        monkeypatch.setattr(place, str(cache), raising=False)
    name = make(kind, model_folder, adapter, tmp_path / "model", cache)
    for module in (grpo, sft):
        monkeypatch.setattr(module, "run", lambda trainer, *args: 0)

    def say(how: str) -> str:
        """What a command makes of the model: nothing, or its one line."""
        main, *flags = {
            "grpo": (grpo.main, "--num_generations", "4"),
            "grpo, LoRA": (grpo.main, "--num_generations", "4", "--use_peft"),
            "sft": (sft.main,),
            "sft, LoRA": (sft.main, "--use_peft"),
        }[how.removesuffix(", dry run")]
        words = f"--model {name} --data {data_folder} --output_dir {tmp_path / 'out'} --use_cpu"
        given = [*words.split(), *flags, "--report_to", "none", "--max_completion_length", "8"]
        given = given if "grpo" in how else given[:-2]
        if how.endswith("dry run"):
            code = main([*given, "--dry-run"])
            (*errors,) = capsys.readouterr().err.splitlines()
            assert code == (2 if errors else 0)
            return "\n".join(error.removeprefix("error: ") for error in errors)
        try:
            assert main(given) == 0
        except UserError as error:
            return str(error)
        return ""

    def evaluate() -> str:
        try:
            LocalModel.load(name)
        except UserError as error:
            return str(error)
        return ""

    said = {evaluate()}
    said |= {say(how) for how in ("grpo, LoRA", "sft", "grpo, dry run", "sft, LoRA, dry run")}
    (line,) = said
    assert "\n" not in line
    assert re.search(KINDS[kind] or "^$", line)
