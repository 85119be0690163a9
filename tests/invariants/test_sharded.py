"""A packed row through a sharded model (FSDP2, ZeRO-3) gives the gradients of the whole model."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.tiny import make_tiny

SCRIPT = """
import copy, os, sys
from types import SimpleNamespace
import torch
import torch.distributed as dist
import transformers.integrations.deepspeed as integration
from accelerate.utils import FullyShardedDataParallelPlugin
from accelerate.utils.fsdp_utils import fsdp2_prepare_model
from PIL import Image
from torch.distributed.fsdp import FSDPModule
from trl.trainer.utils import add_fused_lm_head
from star_r1.model.loading import load_model, load_processor
from star_r1.train.packed import pack, share
from star_r1.train.prompts import encode
from star_r1.train.run import leave
from star_r1.train.sharded import gather_head
from star_r1.train.vision_tokens import forbid_vision_tokens

folder, way = sys.argv[1:]
dist.init_process_group("gloo")
whole, processor = load_model(folder), load_processor(folder, min_pixels=28 * 28)
sharded = copy.deepcopy(whole)
picture = Image.new("RGB", (84, 56), (200, 10, 30))
parts = [{"type": "image"}, {"type": "image"}, {"type": "text", "text": "What changed?"}]
row = {"prompt": [{"role": "user", "content": parts}], "images": [picture, picture]}
prompts = encode([row], whole.model, processor)
generator = torch.Generator().manual_seed(dist.get_rank())
ids = torch.randint(33, 126, (3, 5), generator=generator)  # each process learns from its own
packed = pack(prompts, torch.zeros(3), ids, torch.ones_like(ids), whole.config.image_token_id)
for model in (whole, sharded):
    forbid_vision_tokens(model)
    add_fused_lm_head(model)
    gather_head(model)
    share(model)
    model.activation_checkpointing_enable()
    model.train()


def log_probs(model):
    labels = packed.targets[None]
    return model(prompts=prompts, row=packed, shift_labels=labels, fused_lm_head=True).log_probs


if way == "FSDP2":
    # by accelerate itself, whose units are more than the layers
    plugin = FullyShardedDataParallelPlugin(
        fsdp_version=2,
        reshard_after_forward=True,
        auto_wrap_policy="transformer_based_wrap",
        cpu_ram_efficient_loading=False,
    )
    accelerator = SimpleNamespace(
        state=SimpleNamespace(fsdp_plugin=plugin), mixed_precision="no", is_main_process=True
    )
    sharded = fsdp2_prepare_model(accelerator, sharded)
    units = [name for name, module in sharded.named_modules() if isinstance(module, FSDPModule)]
    assert {"", "lm_head", "model.language_model.embed_tokens"} <= set(units), units
    found = log_probs(sharded)
    found.sum().backward()
    gradient = lambda parameter: parameter.grad.full_tensor()
else:
    import deepspeed
    from deepspeed.utils import safe_get_full_grad as gradient

    config = {
        "train_micro_batch_size_per_gpu": 1,
        "zero_optimization": {"stage": 3, "stage3_param_persistence_threshold": 0},
        "optimizer": {"type": "SGD", "params": {"lr": 0.0}},
        "zero_force_ds_cpu_optimizer": False,
        "zero_allow_untested_optimizer": True,
    }
    enabled = integration.HfDeepSpeedConfig(config)  # what TRL's head asks for
    parameters = list(sharded.parameters())
    engine, *_ = deepspeed.initialize(model=sharded, model_parameters=parameters, config=config)
    assert sharded.lm_head.weight.numel() == 0
    found = log_probs(engine)
    engine.backward(found.sum())
    del enabled
expected = log_probs(whole)
expected.sum().backward()
torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
names = 0
for (name, ours), theirs in zip(sharded.named_parameters(), whole.parameters(), strict=True):
    mean = theirs.grad / dist.get_world_size()
    dist.all_reduce(mean)
    tell = lambda text: f"{name}: {text}"
    torch.testing.assert_close(gradient(ours), mean, atol=1e-4, rtol=1e-4, msg=tell)
    names += bool(mean.abs().max() > 0)
assert names > 30, names
if way == "ZeRO-3":  # a step with a broken gradient is left out, and its norm says so
    engine.step()
    engine.backward(log_probs(engine).sum() * float("nan"))
    engine.step()
    assert engine.get_global_grad_norm() == float("inf")
    assert all(p.ds_tensor.isfinite().all() for p in sharded.parameters())
leave(0)
"""


@pytest.mark.parametrize(
    "name",
    ["Qwen/Qwen2.5-VL-7B-Instruct", "Qwen/Qwen3-VL-4B-Instruct"],
    ids=["Qwen2.5-VL", "Qwen3-VL, tied"],  # its output layer is its embedding
)
@pytest.mark.parametrize(
    "way",
    [
        "FSDP2",
        pytest.param(
            "ZeRO-3",
            marks=[
                pytest.mark.deepspeed,
                pytest.mark.skipif(
                    importlib.util.find_spec("deepspeed") is None, reason="DeepSpeed is not here"
                ),
            ],
        ),
    ],
)
def test_gradients_of_a_sharded_model(way: str, name: str, tmp_path: Path) -> None:
    folder = make_tiny(tmp_path / "tiny", name)
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    subprocess.run(
        [*launch, str(script), str(folder), way],
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu"},
        timeout=300,
    )
