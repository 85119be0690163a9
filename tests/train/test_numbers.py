"""Numbers and folders that no training can have: one line, before anything is computed."""

import dataclasses
from pathlib import Path

import pytest

from star_r1.data.manifest import holds_dataset
from star_r1.errors import UserError
from star_r1.train import grpo, sft
from star_r1.train.numbers import check_numbers

WRONG = [
    ("--learning_rate 1e400", "--learning_rate inf: give a finite number"),
    ("--weight_decay nan", "--weight_decay nan: give a finite number"),
    ("--max_grad_norm -1", "--max_grad_norm -1.0: give a number of 0 or more"),
    ("--save_steps nan", "--save_steps nan: give a finite number"),
    ("--save_steps 0", "--save_steps 0.0: give a number above 0"),
    ("--num_train_epochs -3 --max_steps -1", "--num_train_epochs -3.0: give a number above 0"),
    ("--max_steps 0", "--max_steps 0: give 1 or more, or -1"),
    ("--per_device_train_batch_size 0", "--per_device_train_batch_size 0: give a number of 1"),
    ("--gradient_accumulation_steps -1", "--gradient_accumulation_steps -1: give a number of 1"),
    ("--threads 0", "--threads 0: give a number of 1 or more"),
    ("--use_peft --lora_r 0", "--lora_r 0: give a number of 1 or more"),
    ("--use_peft --lora_dropout 2", "--lora_dropout 2.0: give a share below 1"),
    ("--views center center", "--views .*each once"),
    ("--bf16 true --fp16 true", "--bf16 and --fp16: give one of them"),
    ("--deepspeed nowhere.json", "--deepspeed nowhere.json: no such file"),
]
WRONG_GRPO = [
    ("--beta nan", "--beta nan: give a finite number"),
    ("--beta -1", "--beta -1.0: give a number of 0 or more"),
    ("--num_generations 0", "--num_generations 0: give a number of 2 or more"),
    ("--num_iterations 0", "--num_iterations 0: give a number of 1 or more"),
    ("--temperature nan", "--temperature nan: give a finite number"),
    ("--max_kl nan", "--max_kl nan: give a finite number"),
    ('--generation_kwargs {"foo":1}', "--generation_kwargs foo: transformers has no such key"),
    ('--generation_kwargs {"max_new_tokens":3}', "max_new_tokens: it has a flag of its own"),
]
CASES = [(sft.main, *case) for case in WRONG] + [(grpo.main, *case) for case in WRONG_GRPO]


@pytest.mark.parametrize(("main", "flags", "message"), CASES)
def test_what_cannot_be_is_refused_before_anything_is_computed(
    main: object, flags: str, message: str, data_folder: Path, tmp_path: Path
) -> None:
    words = f"--data {data_folder} --output_dir {tmp_path / 'out'} --report_to none"
    with pytest.raises(UserError, match=message):
        main([*words.split(), *flags.split()])  # type: ignore[operator]
    assert not (tmp_path / "out").exists()


@dataclasses.dataclass
class Settings:
    """Some that a recipe may give another type than a number."""

    beta: float = 0.04
    max_length: int | None = None
    top_k: int | None = 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (Settings(beta=None), "--beta None: give a number"),
        (Settings(beta=[1, 2]), "--beta .*: give a number"),
        (Settings(max_length=0), "--max_length 0: give a number of 1 or more"),
        (Settings(top_k="x"), "--top_k x: give a number"),
        (Settings(), None),
    ],
)
def test_numbers_of_a_recipe(settings: Settings, message: str | None) -> None:
    if message is None:
        check_numbers(settings)
        return
    with pytest.raises(UserError, match=message):
        check_numbers(settings)


@pytest.mark.parametrize(
    ("place", "what"),
    [
        ("{data}", "part of a dataset"),
        ("{data}/data", "part of a dataset"),
        ("{run}/checkpoint-2", "the checkpoint of a run"),
        ("{run}/checkpoint-2/deeper", "the checkpoint of a run"),
        ("{run}/inside", "the folder of a run"),
    ],
)
def test_a_run_has_a_folder_of_its_own(
    place: str, what: str, data_folder: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    (run / "checkpoint-2").mkdir(parents=True)
    (run / "checkpoint-2" / "complete").touch()
    (run / "training.json").write_text("{}")
    assert holds_dataset(data_folder)
    assert not holds_dataset(run)
    out = place.format(data=data_folder, run=run)
    words = ["--data", str(data_folder), "--output_dir", out, "--report_to", "none"]
    before = sorted(data_folder.rglob("*"))
    with pytest.raises(UserError, match=f"--output_dir .*{what}.*name a folder of its own"):
        grpo.main(words)
    assert sorted(data_folder.rglob("*")) == before
