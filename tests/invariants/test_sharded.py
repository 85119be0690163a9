"""A packed row through a model that FSDP2 has sharded gives the gradients of the whole model."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.tiny import make_tiny

SCRIPT = """
import copy, sys
import torch
import torch.distributed as dist
from PIL import Image
from torch.distributed.fsdp import fully_shard
from trl.trainer.utils import add_fused_lm_head
from star_r1.model.loading import load_model, load_processor
from star_r1.train.packed import pack, share
from star_r1.train.prompts import encode
from star_r1.train.vision_tokens import forbid_vision_tokens

dist.init_process_group("gloo")
whole, processor = load_model(sys.argv[1]), load_processor(sys.argv[1], min_pixels=28 * 28)
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
    share(model)
for block in (*sharded.model.visual.blocks, *sharded.model.language_model.layers):
    fully_shard(block)
fully_shard(sharded)
for model in (whole, sharded):
    labels = packed.targets[None]
    output = model(prompts=prompts, row=packed, shift_labels=labels, fused_lm_head=True)
    output.log_probs.sum().backward()
names = 0
for (name, ours), theirs in zip(sharded.named_parameters(), whole.parameters(), strict=True):
    mean = theirs.grad / dist.get_world_size()
    dist.all_reduce(mean)
    torch.testing.assert_close(ours.grad.full_tensor(), mean, atol=1e-4, rtol=1e-4)
    names += bool(mean.abs().max() > 0)
assert names > 30, names
dist.barrier()
dist.destroy_process_group()
"""


@pytest.mark.parametrize("name", ["Qwen/Qwen2.5-VL-7B-Instruct", "Qwen/Qwen3-VL-8B-Instruct"])
def test_gradients_of_a_sharded_model(name: str, tmp_path: Path) -> None:
    folder = make_tiny(tmp_path / "tiny", name)
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    subprocess.run(
        [*launch, str(script), str(folder)],
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=300,
    )
