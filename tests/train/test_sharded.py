"""What a run does for a model that FSDP2 may divide; the gradients are in tests/invariants."""

from pathlib import Path

import pytest
import torch

from star_r1.train import grpo, run, sft


@pytest.mark.parametrize("method", [grpo, sft], ids=["GRPO", "SFT"])
def test_every_run_has_the_output_layer_gathered_by_fsdp(
    method: object,
    model_folder: Path,
    data_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[torch.nn.Module] = []
    monkeypatch.setattr(run, "gather_head", seen.append)
    flags = ["--model", model_folder, "--data", data_folder, "--output_dir", tmp_path / "run"]
    flags += ["--use_cpu", "--report_to", "none", "--max_steps", "1", "--save_strategy", "no"]
    flags += ["--per_device_train_batch_size", "2"]
    flags += ["--num_generations", "2", "--max_completion_length", "4"] if method is grpo else []
    assert method.main([*map(str, flags)]) == 0  # type: ignore[attr-defined]
    (model,) = seen
    assert model.get_output_embeddings() is not None
