"""Run by an environment with verl: composes a config, reads its data, scores by its reward loop.

Reads JSON from stdin: ``overrides`` (what ``run.sh`` gives verl), ``completions`` (row of the
training data -> texts; Ray starts only where there are some) and ``pixels`` (file to write the
first prompt's inputs to). Prints what it saw as JSON, on the last line.
"""

import asyncio
import json
import sys
from typing import Any

import numpy as np
import ray
import torch
from hydra import compose, initialize_config_module
from tensordict import TensorDict
from verl import DataProto
from verl.experimental.reward_loop import RewardLoopManager
from verl.trainer.ppo.utils import need_critic, need_reference_policy
from verl.utils import hf_processor, hf_tokenizer
from verl.utils.config import omega_conf_to_dataclass, validate_config
from verl.utils.dataset.rl_dataset import collate_fn, get_dataset_class


def main() -> None:
    asked = json.load(sys.stdin)
    with initialize_config_module("verl.trainer.config", version_base=None):
        config = compose("ppo_trainer", asked["overrides"])
    validate_config(config, need_reference_policy(config), need_critic(config))
    omega_conf_to_dataclass(config.actor_rollout_ref.actor)
    tokenizer = hf_tokenizer(config.actor_rollout_ref.model.path)
    processor = hf_processor(config.actor_rollout_ref.model.path)
    sets = {
        split: get_dataset_class(config.data)(files, tokenizer, config.data, processor)
        for split, files in (("train", config.data.train_files), ("val", config.data.val_files))
    }
    asked_rows = [
        (sets["train"][int(row)], text)
        for row, texts in asked["completions"].items()
        for text in texts
    ]
    seen = {
        "use_kl_loss": config.actor_rollout_ref.actor.use_kl_loss,
        "generations": config.actor_rollout_ref.rollout.n,
        "processor": type(processor).__name__,
        "rows": {split: len(rows) for split, rows in sets.items()},
        "sources": [row["data_source"] for row in sets["val"]],
        "extra": [row["extra_info"] for row in sets["train"]],
        **(score(config, tokenizer, asked_rows) if asked_rows else {}),
    }
    np.savez(asked["pixels"], **inputs(sets["train"], processor, config.data))
    print(json.dumps(seen))


def inputs(rows: Any, processor: Any, config: Any) -> dict[str, Any]:
    """What the model gets for the first row, made as verl's agent loop does."""
    messages = rows[0]["raw_prompt"]
    text = processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    patch = processor.image_processor.patch_size
    images, _, _ = asyncio.run(rows.process_multi_modal_info(messages, patch, config))
    made = processor(text=[text], images=images, return_tensors="pt")
    return {name: made[name].numpy() for name in ("input_ids", "pixel_values", "image_grid_thw")}


def score(config: Any, tokenizer: Any, asked: list[tuple[Any, str]]) -> dict[str, Any]:
    """Completions as rollouts hand them over, scored by verl's reward workers on Ray."""
    ids = [
        [*tokenizer(text, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
        for _, text in asked
    ]
    widest = max(map(len, ids))
    responses = torch.tensor([row + [tokenizer.pad_token_id] * (widest - len(row)) for row in ids])
    mask = torch.tensor([[1] * len(row) + [0] * (widest - len(row)) for row in ids])
    prompts = torch.ones(len(ids), 4, dtype=torch.long)
    batch = TensorDict(
        {
            "prompts": prompts,
            "responses": responses,
            "attention_mask": torch.cat([prompts, mask], dim=1),
        },
        batch_size=len(ids),
    )
    rows = collate_fn([row for row, _ in asked])
    names = ("data_source", "reward_model", "extra_info")
    ray.init(num_cpus=2, include_dashboard=False)
    config.reward.num_workers = 2
    scored = RewardLoopManager(config).compute_rm_score(
        DataProto(batch=batch, non_tensor_batch={name: rows[name] for name in names})
    )
    ray.shutdown()
    at_last = torch.zeros_like(mask).scatter(1, mask.sum(1, keepdim=True) - 1, 1)
    rewards = scored.batch["rm_scores"]
    return {
        "elsewhere": rewards[at_last == 0].abs().sum().item(),
        "scores": rewards[at_last == 1].tolist(),
        "terms": {
            key: scored.non_tensor_batch[key].tolist()
            for key in scored.meta_info["reward_extra_keys"]
        },
    }


if __name__ == "__main__":
    main()
