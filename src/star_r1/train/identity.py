"""What the numbers of a training follow from, so that no run goes on as another one.

Two starts with equal identities are legs of one run. It holds what is trained on and from as
digests of the content, so that data or weights that changed under the same path are noticed, and
every setting but those of ``HARMLESS``: one that a new TRL brings counts until somebody lists it.
"""

import dataclasses
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from huggingface_hub import try_to_load_from_cache

from star_r1.data.dataset import shards
from star_r1.data.manifest import digest
from star_r1.model.source import find_model
from star_r1.train.launch import Launch, read_launch

_EVALUATION: Final = (
    *("eval_strategy", "eval_steps", "eval_delay", "eval_on_start", "eval_accumulation_steps"),
    *("eval_do_concat_batches", "eval_use_gather_object", "per_device_eval_batch_size"),
    *("batch_eval_metrics", "prediction_loss_only", "include_for_metrics", "bf16_full_eval"),
    *("fp16_full_eval", "num_generations_eval", "eval_packing", "eval_views"),
)
"""They count where the evaluations decide something: the best model, a learning rate."""

_BY_METRIC: Final = ("reduce_lr_on_plateau", "greedy")
"""Schedules that follow from evaluations."""

HARMLESS: Final = frozenset(
    (
        *_EVALUATION,
        # where it goes; where and how far it runs
        *("output_dir", "restart", "resume_from_checkpoint", "dry_run", "launch", "threads"),
        *("max_steps", "num_train_epochs", "max_kl", "use_cpu", "local_rank", "ddp_timeout"),
        *("do_train", "do_eval", "do_predict", "debug", "skip_memory_metrics"),
        "ignore_data_skip",  # refused by ``arguments.faults``
        # saving
        *("save_strategy", "save_steps", "save_total_limit", "save_only_model"),
        *("save_on_each_node", "enable_jit_checkpoint", "restore_callback_states_from_checkpoint"),
        # logging and reporting
        *("logging_strategy", "logging_steps", "logging_first_step", "logging_nan_inf_filter"),
        *("log_level", "log_level_replica", "log_on_each_node", "log_completions"),
        *("log_multimodal", "log_unique_prompts", "log_completions_hub_repo"),
        *("num_completions_to_print", "include_num_input_tokens_seen", "disable_tqdm"),
        *("report_to", "run_name", "project", "trackio_space_id", "trackio_bucket_id"),
        "trackio_static_space_id",
        # the Hub
        *("push_to_hub", "hub_model_id", "hub_token", "hub_revision", "hub_private_repo"),
        *("hub_strategy", "hub_always_push"),
        # how fast rows and completions come
        *("dataloader_num_workers", "dataloader_pin_memory", "dataloader_persistent_workers"),
        *("dataloader_prefetch_factor", "dataloader_multiprocessing_context", "dataset_num_proc"),
        *("vllm_server_base_url", "vllm_server_host", "vllm_server_port", "vllm_server_timeout"),
        *("vllm_group_port", "vllm_gpu_memory_utilization", "vllm_enable_sleep_mode"),
        # the same numbers computed again rather than kept
        *("activation_checkpointing", "gradient_checkpointing"),
    )
)
"""Settings that leave the numbers alone: of TRL's configs, of transformers' and of ours."""

_CONTENT: Final = ("model_name_or_path", "data", "eval_data")
"""They count by what lies there, not by their names."""
_FILES: Final = ("chat_template_path", "deepspeed", "fsdp_config", "accelerator_config")
"""Settings that may be the path of a file; then its content counts."""
_WEIGHTS: Final = (
    *("*.safetensors*", "*model*.bin*", "config.json", "adapter_config.json"),
    "generation_config.json",
)
_PROCESSOR: Final = (
    *("*token*.json", "vocab.*", "merges.txt", "*processor*_config.json"),
    *("*.jinja", "chat_template.json"),
)
_NOT_FLAGS: Final = ("method", "processes", "division", "processor")
"""Of the names in an identity."""


def identify(
    arguments: Any, args: Any, numbers: Any = None, launch: Launch | None = None
) -> dict[str, Any]:
    """The identity of a run: name -> JSON value; what cannot be known yet is not in it.

    Reads all bytes of data and weights, without loading them.

    Args:
        arguments: ``StarArguments``.
        args: TRL's config.
        numbers: of the reward; None in SFT.
        launch: the processes; None for those of this run.

    Raises:
        UserError: the data or the model is not there.
    """
    launch = launch or read_launch(None, os.environ)
    found = {
        "method": "sft" if numbers is None else "grpo",
        "processes": args.world_size,
        "division": launch.division,
        "data": _sha256(shards(Path(arguments.data))),
        **describe_model(arguments.model_name_or_path),
    }
    settings = vars(arguments) | args.to_dict()
    if settings.get("reward") == "star":
        settings |= vars(numbers)
    settings = {k: v for k, v in settings.items() if not k.startswith("lora_")} | arguments.lora()
    counted = [name for name in settings if name not in HARMLESS and name not in _CONTENT]
    if args.load_best_model_at_end or settings["lr_scheduler_type"] in _BY_METRIC:
        counted += [name for name in _EVALUATION if name in settings]
        if arguments.eval_data:
            found["eval_data"] = _sha256(shards(Path(arguments.eval_data)))
    for name in counted:
        value = settings[name]
        if name in _FILES and isinstance(value, str) and Path(value).is_file():
            value = _sha256([Path(value)])
        found[name] = value
    return json.loads(json.dumps(found, default=str))  # type: ignore[no-any-return]


def _sha256(files: Iterable[Path]) -> str:
    """A digest that ``_shown`` knows as one."""
    return f"sha256:{digest(files)}"


def describe_model(name: str) -> dict[str, str]:
    """``weights`` and ``processor``: digests of a folder's, or a Hub name with its commit.

    Nothing is downloaded: a Hub name whose files are not in the cache yet gives nothing. An
    adapter's weights are its own and its base's.

    Raises:
        UserError: there is no such model, or an adapter's base is missing.
    """
    source = find_model(name, fetch=False)
    weights = [_describe_weights(path) for path in (source.adapter, source.weights) if path]
    if not all(weights):
        return {}
    found = {"weights": " on ".join(weights)}
    if processor := _found(Path(source.processor), _PROCESSOR):
        found["processor"] = _sha256(processor)
    return found


def _describe_weights(path: str) -> str:
    """Of a folder or a Hub name; empty where the latter's are not in the cache yet."""
    if Path(path).is_dir():
        return _sha256(_found(Path(path), _WEIGHTS))
    cached = try_to_load_from_cache(path, "config.json")
    return f"{path}@{Path(cached).parent.name}" if isinstance(cached, str) else ""


def _found(folder: Path, patterns: Iterable[str]) -> list[Path]:
    return sorted({path for pattern in patterns for path in folder.glob(pattern)})


def differences(
    then: Mapping[str, Any], now: Mapping[str, Any], defaults: Mapping[str, Any]
) -> list[str]:
    """What differs, as ``--flag then -> now``; only the method where that does.

    Args:
        then: the identity in a record. A setting that its TRL did not have yet is taken to have
            had today's default.
        now: the identity of this start; what is not in it cannot be compared.
        defaults: setting -> default.

    >>> differences({"beta": 0.0}, {"beta": 0.04, "delta": None}, {"delta": None})
    ['--beta 0.0 -> 0.04']
    """
    found = {}
    for name, new in now.items():
        old = then[name] if name in then else defaults.get(name, new)
        if old != new:
            found[name] = f"{_flag(name)} {_shown(old)} -> {_shown(new)}"
    return [found["method"]] if "method" in found else list(found.values())


def default_settings(*configs: Any) -> dict[str, Any]:
    """Setting -> default, of dataclass instances."""
    found = {}
    for config in configs:
        for field in dataclasses.fields(config):
            made = field.default_factory
            value = field.default if made is dataclasses.MISSING else made()
            found[field.name] = json.loads(json.dumps(value, default=str))
    return found


def _flag(name: str) -> str:
    names = {"weights": "model"}
    return name if name in _NOT_FLAGS else f"--{names.get(name, name)}"


def _shown(value: Any) -> str:
    """Short, for one line.

    >>> _shown("sha256:" + "0123456789abcdef" * 4), _shown(["center", "left"])
    ('SHA-256 0123456789ab', 'center,left')
    """
    if isinstance(value, list):
        return ",".join(map(_shown, value))
    if isinstance(value, str) and value.startswith("sha256:"):
        return " on ".join(_short(part) for part in value.split(" on "))
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _short(part: str) -> str:
    return f"SHA-256 {part[7:19]}" if part.startswith("sha256:") else part


def follows_end(args: Any) -> bool:
    """Whether the learning rate of a step depends on where the run ends."""
    kind = str(getattr(args.lr_scheduler_type, "value", args.lr_scheduler_type))
    if kind in ("constant_with_warmup", "inverse_sqrt"):
        return bool(0 < args.warmup_steps < 1)
    return kind not in ("constant", *_BY_METRIC)
