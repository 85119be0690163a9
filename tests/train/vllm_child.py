"""Run in the environment of vLLM: TRL's colocated path with and without our guard, as JSON.

    python vllm_child.py MODEL DATA FOLDER SETTINGS

MODEL, a folder or ``mini``, is sampled from; DATA is a dataset folder, FOLDER is scratch; SETTINGS
is JSON, a list of sampling settings, each of which is tried.
"""

import functools
import json
import sys
from typing import Any

import torch
import vllm.model_executor.layers.utils
from datasets import Image, List
from peft import LoraConfig, get_peft_model
from PIL import Image as Picture
from trl import GRPOConfig
from trl.data_utils import prepare_multimodal_messages
from trl.generation import vllm_generation
from trl.trainer.grpo_trainer import GRPOTrainer
from trl.trainer.utils import add_fused_lm_head

from star_r1.errors import UserError
from star_r1.model.loading import load_model, load_processor
from star_r1.train.grpo import prompts_of
from star_r1.train.shared_prompt import SharedPrompt
from star_r1.train.vision_tokens import forbid_vision_tokens
from star_r1.train.vllm import FaithfulVLLM, SaneVLLM, as_seen

G, PROMPTS, LENGTH = 4, 2, 24


class Guarded(SaneVLLM, GRPOTrainer):  # type: ignore[misc]
    """The guard on TRL's own trainer."""


class GuardedShared(SharedPrompt, Guarded):
    """With each prompt computed once in the update."""


def letters(completions: list[Any], **columns: Any) -> list[float]:
    return [float(len(set(completion[0]["content"]))) for completion in completions]


def keep_weights(layer: Any, remove_weight: bool) -> None:
    """On a CPU vLLM packs the weights and drops them, so that no new ones could be loaded."""
    layer.cpu_linear = torch.nn.functional.linear


def main(name: str, data: str, folder: str, settings: str) -> None:
    vllm.model_executor.layers.utils.dispatch_cpu_unquantized_gemm = keep_weights
    vllm_generation.LLM = functools.partial(
        vllm_generation.LLM, dtype="float32", enforce_eager=True
    )
    model, processor = load_model(name), load_processor(name)
    rows = prompts_of(data, ["center"]).cast_column("images", List(Image()))
    forbid_vision_tokens(model)
    args = GRPOConfig(
        folder,
        per_device_train_batch_size=G * PROMPTS,
        num_generations=G,
        max_completion_length=LENGTH,
        use_vllm=True,
        vllm_mode="colocate",
        vllm_max_model_length=3072,
        vllm_gpu_memory_utilization=0.2,
        use_cpu=True,
        bf16=False,
        beta=0.0,
        report_to="none",
    )
    trainer = GuardedShared(model, letters, args, train_dataset=rows, processing_class=processor)
    trainer.model.train()
    batch = [rows[prompt] for prompt in range(PROMPTS) for _ in range(G)]
    found = {"greedy": greedy(trainer, rows)}

    generation = trainer.vllm_generation
    with torch.no_grad():  # so that what vLLM has read from disk is not the policy any more
        for parameter in model.model.language_model.layers.parameters():
            parameter.mul_(1.02)
    trainer.state.global_step += 1  # TRL hands vLLM the weights anew
    found["guarded, shared prompts"] = step(trainer, batch)
    found["settings"] = [step(trainer, batch, **given) for given in json.loads(settings)]
    found["nucleus"] = step(trainer, batch, top_p=0.9, top_k=50)
    trainer.__class__ = Guarded
    found["guarded"] = step(trainer, batch)
    trainer.__class__ = GRPOTrainer
    generation.__class__ = vllm_generation.VLLMGeneration
    found["TRL"] = step(trainer, batch)

    trainer.__class__ = GuardedShared
    with torch.no_grad():  # the tower has learned
        for parameter in model.model.visual.parameters():
            parameter.mul_(1.3)
    generation.sync_weights()
    trainer._last_loaded_step = trainer.state.global_step
    generation.__class__ = FaithfulVLLM
    found["another tower, TRL's sync"] = step(trainer, batch)
    generation.sync_weights()
    found["another tower"] = step(trainer, batch)
    found["an adapter"], found["base"] = adapted(trainer, batch)
    found["other limits"] = other_limits(trainer, batch)

    trainer.__class__ = Guarded
    love_pictures(trainer, batch)
    trainer.state.global_step += 1
    found["guarded, pictures loved"] = step(trainer, batch)
    generation.generation_kwargs = {}
    drawn = trainer._generate_single_turn(*trainer._tokenize_prompts(prompts(batch)), G)[0]
    found["drawn without the bias"] = sum(ids.count(model.config.image_token_id) for ids in drawn)
    print(json.dumps(found))


def prompts(batch: list[dict[str, Any]]) -> list[Any]:
    """As TRL makes them: the pictures in the messages."""
    return [prepare_multimodal_messages(row["prompt"], row["images"]) for row in batch]


def greedy(trainer: Any, rows: Any) -> dict[str, list[list[int]]]:
    """Likeliest completions by vLLM, of the weights that it read from disk, and by transformers."""
    llm, model = trainer.vllm_generation.llm, trainer.model
    settings = vllm_generation.SamplingParams(temperature=0, max_tokens=LENGTH)
    by_vllm, by_transformers = [], []
    for row in rows:
        text = trainer.processing_class.apply_chat_template(
            row["prompt"], add_generation_prompt=True, tokenize=False
        )
        pictures = as_seen(row["images"], trainer.processing_class.image_processor)
        request = {"prompt": text, "multi_modal_data": {"image": pictures}}
        (output,) = llm.generate([request], settings, use_tqdm=False)
        by_vllm.append(list(output.outputs[0].token_ids))
        inputs = trainer.processing_class(images=[row["images"]], text=[text], return_tensors="pt")
        ids = model.generate(
            **inputs, do_sample=False, repetition_penalty=1.0, max_new_tokens=LENGTH
        )
        by_transformers.append(ids[0, inputs["input_ids"].shape[1] :].tolist())
    return {"vLLM": by_vllm, "transformers": by_transformers}


def step(trainer: Any, batch: list[dict[str, Any]], **settings: Any) -> dict[str, Any]:
    """One rollout: the tokens of its prompts, here and in vLLM, and the importance ratios.

    ``settings`` are flags of sampling, for this rollout alone.
    """
    before = {key: getattr(trainer, key) for key in settings}
    apply(trainer, settings)
    generate, seen = trainer.vllm_generation.llm.generate, []

    def spy(*args: Any, **kwargs: Any) -> Any:
        outputs = generate(*args, **kwargs)
        seen.extend(len(output.prompt_token_ids) for output in outputs)
        return outputs

    trainer.vllm_generation.llm.generate = spy
    output = trainer._generate_and_score_completions(batch)
    trainer.vllm_generation.llm.generate = generate
    apply(trainer, before)
    kept = output["completion_mask"].bool()
    ratio = (output["old_per_token_logps"] - output["sampling_per_token_logps"]).exp()[kept]
    config = trainer.model.config
    vision = torch.tensor([config.image_token_id, config.video_token_id])
    return {
        "prompt": output["prompt_mask"].sum(1).tolist(),
        "in vLLM": seen,
        "ratio": [ratio.min().item(), ratio.max().item()],
        "vision tokens": int(torch.isin(output["completion_ids"], vision).sum()),
    }


def apply(trainer: Any, settings: dict[str, Any]) -> None:
    """Sample, and score, with these flags from now on."""
    for holder in (trainer, trainer.vllm_generation):
        vars(holder).update(settings)
    if "temperature" in settings:
        add_fused_lm_head(trainer.model, settings["temperature"], outputs=("log_probs", "entropy"))


def adapted(trainer: Any, batch: list[dict[str, Any]]) -> tuple[dict[str, Any], int]:
    """A rollout of the policy with an adapter; then weights of the base, in bfloat16, that are not
    what they were after 20 syncs."""
    whole, generation = trainer.model, trainer.vllm_generation
    targets = r".*(language_model.*(q|k|v|o|gate|up|down)_proj|visual.*(qkv|attn.proj))$"
    model = get_peft_model(whole, LoraConfig(target_modules=targets, r=4))
    adapters = {n: p for n, p in model.named_parameters() if "lora_" in n}
    with torch.no_grad():
        for parameter in adapters.values():
            parameter.normal_(std=0.05)
    trainer.model = generation.model = model.train()
    generation.sync_weights()
    output = step(trainer, batch)
    float32 = {n: p.data for n, p in model.named_parameters() if n not in adapters}
    low = {n: weight.bfloat16() for n, weight in float32.items()}
    for name, weight in low.items():
        model.get_parameter(name).data = weight.clone()
    for _ in range(20):
        generation.sync_weights()
    changed = sum(not torch.equal(model.get_parameter(n), weight) for n, weight in low.items())
    for name, weight in float32.items():
        model.get_parameter(name).data = weight
    trainer.model = generation.model = model.unload()
    generation.sync_weights()
    return output, changed


def other_limits(trainer: Any, batch: list[dict[str, Any]]) -> str:
    """What is said where the trainer's limits of size let a picture through, and vLLM's do not."""
    limits = trainer.processing_class.image_processor.size
    for edge, limit, size in (
        ("shortest_edge", 1, (32, 32)),  # vLLM enlarges it, but for the embedded model
        ("longest_edge", 10**7, (320, 240)),  # vLLM reduces it for that one
    ):
        before, limits[edge] = limits[edge], limit
        pictures = [Picture.new("RGB", size)] * 2
        try:
            trainer._generate_and_score_completions([{**row, "images": pictures} for row in batch])
        except UserError as error:
            return str(error)
        finally:
            limits[edge] = before
    return ""


def love_pictures(trainer: Any, batch: list[dict[str, Any]]) -> None:
    """Make the image placeholder by far the likeliest first token."""
    model, processor = trainer.model, trainer.processing_class
    text = processor.apply_chat_template(
        [row["prompt"] for row in batch], add_generation_prompt=True, tokenize=False
    )
    pictures = [row["images"] for row in batch]
    inputs = processor(images=pictures, text=text, padding=True, return_tensors="pt")
    with torch.no_grad():
        states = model.model(**inputs).last_hidden_state[:, -1]
        weight = model.get_output_embeddings().weight
        weight[model.config.image_token_id] = states.mean(0) * 40 / states.mean(0).norm() ** 2


if __name__ == "__main__":
    main(*sys.argv[1:])
