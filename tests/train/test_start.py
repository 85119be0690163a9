"""What a start finds in its folder: nothing, its own run, or a reason to refuse."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from star_r1.errors import UserError
from star_r1.files import alone, check_free
from star_r1.train import grpo, sft
from star_r1.train.checkpoints import COMPLETE
from star_r1.train.record import TRAINING, read_record
from star_r1.train.start import HOLDS

SIZE = "--use_cpu --report_to none --save_steps 1 --save_total_limit 99 --max_steps 2"
GRPO = f"{SIZE} --num_generations 4 --per_device_train_batch_size 8 --max_completion_length 4"
SFT = f"{SIZE} --per_device_train_batch_size 4 --lr_scheduler_type constant"
WAYS = (
    "Give another --output_dir, the settings of then, or --restart true, which moves that run "
    "aside and begins anew"
)
Main = Callable[[str], int]


def command(model: Path, data: Path, out: Path, flags: str) -> list[str]:
    return f"--model {model} --data {data} --output_dir {out} {flags}".split()


@pytest.fixture(scope="module")
def ended(
    model_folder: Path, data_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """Two steps of each method, not to be changed."""
    here = tmp_path_factory.mktemp("ended")
    assert grpo.main(command(model_folder, data_folder, here / "grpo", GRPO)) == 0
    assert sft.main(command(model_folder, data_folder, here / "sft", SFT)) == 0
    return {"grpo": here / "grpo", "sft": here / "sft"}


@pytest.fixture
def out(ended: dict[str, Path], tmp_path: Path) -> Path:
    """A run of SFT that has ended, to be changed."""
    return Path(shutil.copytree(ended["sft"], tmp_path / "run"))


@pytest.fixture
def train(model_folder: Path, data_folder: Path, tmp_path: Path) -> Callable[..., int]:
    """SFT, into ``run`` if not told otherwise; the last of equal flags wins."""

    def train(flags: str = "", out: str = "run") -> int:
        return sft.main(command(model_folder, data_folder, tmp_path / out, f"{SFT} {flags}"))

    return train


def content(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(path): (path.stat().st_mtime_ns, path.read_bytes())
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def weights(folder: Path) -> dict[str, torch.Tensor]:
    (file,) = folder.glob("*model.safetensors")
    return load_file(file)


def same_weights(first: Path, second: Path) -> bool:
    a, b = weights(first), weights(second)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize(
    ("method", "flags", "said"),
    [
        ("grpo", "--reward sparse --max_steps 3", "--reward star -> sparse"),
        ("grpo", "--reward_object 0", "--reward_object 0.5 -> 0.0"),
        ("grpo", "--learning_rate 1e-5", "--learning_rate 1e-06 -> 1e-05"),
        ("grpo", "--beta 0 --seed 7", "--seed 42 -> 7; --beta 0.04 -> 0.0"),
        ("grpo", "--num_generations 8", "--num_generations 4 -> 8"),
        ("grpo", "--use_peft true", "--use_peft False -> True"),
        ("grpo", "--share_prompts false", "--share_prompts True -> False"),
        ("grpo", "--views left", "--views center -> left"),
        ("grpo", "--model mini", "--model SHA-256 "),
        ("sft", "--data_seed 1", "--data_seed None -> 1"),
        ("sft", "--gradient_accumulation_steps 2", "--gradient_accumulation_steps 1 -> 2"),
        ("sft", "--completion_only_loss false", "--completion_only_loss True -> False"),
        ("sft in grpo", "", "method grpo -> sft"),
    ],
)
def test_other_settings_are_refused_before_anything_is_written(
    method: str,
    flags: str,
    said: str,
    ended: dict[str, Path],
    model_folder: Path,
    data_folder: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """With the flags that differ and the ways out; by the dry run in the same words."""
    main, size = (grpo.main, GRPO) if method == "grpo" else (sft.main, SFT)
    folder = ended[method.split()[-1]]
    before = content(folder)
    given = command(model_folder, data_folder, folder, f"{size} {flags}")
    with pytest.raises(UserError) as error:
        main(given)
    line = str(error.value)
    assert line.startswith(f"{folder} holds a run with other settings: ")
    assert said in line
    assert line.endswith(f". {WAYS}")
    assert "max_steps" not in line
    assert content(folder) == before
    if flags != "--num_generations 8":  # the plan has more to say of that
        capsys.readouterr()
        assert main([*given, "--dry-run"]) == 2
        assert f"error: {line}\n" == capsys.readouterr().err
    assert content(folder) == before


def test_saving_logging_and_a_later_end_go_on(
    train: Callable[..., int], out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both legs are in the record and in the card; the weights are those of one run."""
    flags = "--save_steps 9 --logging_steps 2 --save_total_limit 1 --max_steps 3"
    assert train(f"{flags} --dry-run") == 0
    assert f"goes on from          {out / 'checkpoint-2'}" in capsys.readouterr().out
    assert train(flags) == 0
    assert train("--max_steps 3", "whole") == 0
    assert same_weights(out, tmp_path / "whole")
    legs = read_record(out)["legs"]
    assert [(leg["from"], leg["to"]) for leg in legs] == [(0, 2), (2, 3)]
    assert "--logging_steps" not in legs[0]["command"]
    assert "--logging_steps" in legs[1]["command"]
    card = (out / "README.md").read_text()
    assert "| 1-2 | 1 x CPU" in card
    assert "| 3-3 | 1 x CPU" in card
    assert card.count("star-r1 train sft --model") == 2


def test_a_schedule_that_runs_to_another_end_is_said(
    model_folder: Path, data_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def linear(steps: int) -> int:
        flags = f"{SFT} --lr_scheduler_type linear --max_steps {steps}"
        return sft.main(command(model_folder, data_folder, tmp_path / "run", flags))

    assert linear(1) == 0
    assert linear(2) == 0
    said = "the linear learning rate ran to 1 steps up to step 1 and now runs to 2 steps"
    assert f"note: {said}" in capsys.readouterr().err


def test_a_run_at_its_end(
    train: Callable[..., int], out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = read_record(out)
    assert train("--dry-run") == 0
    assert "nothing to do         all 2 steps are done" in capsys.readouterr().out
    assert train() == 0
    assert "all 2 steps are done" in capsys.readouterr().err
    assert read_record(out)["legs"] == record["legs"]
    with pytest.raises(UserError, match=r"checkpoint-2 is past the end of 1 steps"):
        train("--max_steps 1")


def test_without_checkpoints(train: Callable[..., int], tmp_path: Path) -> None:
    """An ended run is not done again over the first one, and cannot go on."""
    assert train("--save_strategy no") == 0
    before = content(tmp_path / "run")
    assert train("--save_strategy no") == 0
    with pytest.raises(UserError, match="ended after 2 steps and kept no checkpoint to go on from"):
        train("--save_strategy no --max_steps 3")
    assert content(tmp_path / "run") == before


def test_restart_moves_the_run_aside(
    train: Callable[..., int], out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {Path(path).name for path in content(out)}
    flags = "--restart true --learning_rate 1e-3 --max_steps 1"
    assert train(f"{flags} --dry-run") == 0
    aside = tmp_path / "run-before-1"
    assert f"is moved to {aside}" in capsys.readouterr().out
    assert not aside.exists()
    assert train(flags) == 0
    assert {Path(path).name for path in content(aside)} == before
    assert read_record(out)["identity"]["learning_rate"] == 1e-3
    assert train(flags) == 0
    assert (tmp_path / "run-before-2" / "checkpoint-1").is_dir()


def test_restart_keeps_what_it_needs_in_place(
    data_folder: Path, out: Path, model_folder: Path, tmp_path: Path
) -> None:
    inside = shutil.copytree(data_folder, out / "pairs")
    with pytest.raises(UserError, match=r"--restart: --data .* is in .*/run, which would be moved"):
        sft.main(command(model_folder, inside, out, f"{SFT} --restart true"))
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("restart: true\n")
    with pytest.raises(UserError, match="restart in a recipe would begin anew at each start"):
        sft.main(command(model_folder, data_folder, out, f"--config {recipe} {SFT}"))


def test_one_training_a_folder(
    train: Callable[..., int], out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = content(out)
    said = "another process is training into it"
    with alone(out, *HOLDS):
        with pytest.raises(UserError, match=said):
            train("--max_steps 3")
        capsys.readouterr()
        assert train("--dry-run") == 2
        assert said in capsys.readouterr().err
    assert content(out) == before


@pytest.mark.parametrize("restart", ["", "--restart true"])
def test_the_folder_is_held_while_it_trains(
    restart: str, train: Callable[..., int], out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def busy(trainer: Any, *args: Any, **kwargs: Any) -> Any:
        with pytest.raises(UserError, match="another process is training into it"):
            check_free(out, *HOLDS)
        seen.append(1)
        return step(trainer, *args, **kwargs)

    step = sft.StarSFTTrainer.training_step
    monkeypatch.setattr(sft.StarSFTTrainer, "training_step", busy)
    assert train(f"--max_steps 3 {restart}") == 0
    assert len(seen) == (3 if restart else 1)


def test_a_checkpoint_by_name(train: Callable[..., int], out: Path, tmp_path: Path) -> None:
    """It is gone on from in another folder too, whose card tells of both legs."""
    first, last = out / "checkpoint-1", out / "checkpoint-2"
    assert train(f"--resume_from_checkpoint {first}", "other") == 0
    assert same_weights(out, tmp_path / "other")
    legs = read_record(tmp_path / "other")["legs"]
    assert [(leg["from"], leg["to"]) for leg in legs] == [(0, 1), (1, 2)]
    steps = [json.loads(line)["step"] for line in (tmp_path / "other" / "log.jsonl").open()]
    assert steps == [1, 2, 2]
    assert train("--resume_from_checkpoint last --max_steps 3") == 0
    assert train(f"--resume_from_checkpoint {last} --max_steps 4", "other") == 0
    assert not (tmp_path / "other" / "checkpoint-1").exists()


@pytest.mark.parametrize(
    ("flags", "folder", "said"),
    [
        ("--resume_from_checkpoint true", "new", "no whole checkpoint in "),
        ("--resume_from_checkpoint false", "run", "checkpoint-2 is there; give another"),
        ("--resume_from_checkpoint nowhere", "run", "nowhere: no such folder"),
        ("--resume_from_checkpoint {out}", "new", "run: not a whole checkpoint; give {out}/check"),
        ("--resume_from_checkpoint {out}/checkpoint-1", "run", "the run has gone on to"),
        (
            "--resume_from_checkpoint {out}/checkpoint-1 --seed 9",
            "new",
            "checkpoint-1: written by a run with other settings: --seed 42 -> 9. Give those, or",
        ),
        ("--restart true --resume_from_checkpoint last", "run", "give one of them"),
        ("--ignore_data_skip true", "run", "a resumed run would repeat rows"),
        ("--overwrite_output_dir", "run", "unknown flag --overwrite_output_dir"),
    ],
)
def test_what_cannot_be_gone_on_from(
    flags: str,
    folder: str,
    said: str,
    train: Callable[..., int],
    out: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given, before = flags.format(out=out), content(out)
    with pytest.raises(UserError) as error:
        train(given, folder)
    line = str(error.value)
    assert said.format(out=out) in line
    if "unknown flag" not in said:
        assert train(f"{given} --dry-run", folder) == 2
        assert f"error: {line}\n" == capsys.readouterr().err
    assert content(out) == before
    assert not (tmp_path / "new" / TRAINING).exists()


def test_a_checkpoint_without_its_optimizer(
    train: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train("--save_only_model true") == 0
    assert "note: --save_only_model: without the optimizer" in capsys.readouterr().err
    with pytest.raises(UserError, match="holds weights without the optimizer"):
        train("--max_steps 3")
    assert train() == 0  # at its end nothing need be gone on from


@pytest.mark.parametrize("what", ["no record", "an older record", "a model", "checkpoints"])
def test_what_nobody_knows_the_settings_of(
    what: str, train: Callable[..., int], out: Path, tmp_path: Path, model_folder: Path
) -> None:
    record = read_record(out)
    for path in out.rglob(TRAINING):
        path.unlink()
    if what == "an older record":
        del record["identity"]
        (out / TRAINING).write_text(json.dumps(record))
    elif what == "a model":
        shutil.rmtree(out)
        shutil.copytree(model_folder, out)
    elif what == "checkpoints":
        for path in out.iterdir():
            if path.is_file():
                path.unlink()
        for path in out.glob(f"*/{COMPLETE}"):
            path.unlink()
    before = content(out)
    with pytest.raises(UserError, match="whose record does not say what its numbers follow from"):
        train("--max_steps 3")
    assert content(out) == before


def test_a_start_that_came_to_nothing_binds_nobody(train: Callable[..., int], out: Path) -> None:
    """Out of memory at the first step, say: the next try may have other settings."""
    for path in out.glob("checkpoint-*"):
        shutil.rmtree(path)
    (out / "config.json").unlink()
    (out / "log.jsonl").write_text("")
    assert train("--per_device_train_batch_size 2") == 0
    assert [leg["from"] for leg in read_record(out)["legs"]] == [0]


@pytest.mark.parametrize(
    "flags", ["--eval_strategy steps --eval_steps 1 --eval_data {data}", "--gradient_checkpointing"]
)
def test_what_counts_as_harmless_is(
    flags: str, train: Callable[..., int], tmp_path: Path, data_folder: Path
) -> None:
    """Masks of dropout are the same whether or not one evaluates, or keeps activations."""
    lora = "--use_peft --lora_dropout 0.5 --learning_rate 1e-2"
    assert train(lora, "plain") == 0
    assert train(f"{lora} {flags.format(data=data_folder)}", "other") == 0
    assert same_weights(tmp_path / "plain", tmp_path / "other")
