"""What is trained of a model: all of it, a fresh LoRA adapter, or one that it comes with.

An adapter that a run starts from is trained on; the policy it starts from, the reference of the KL
term, is a frozen copy of it (TRL's ``ref``). Without ``--use_peft`` it is merged into the full
weights, and these are trained.
"""

import functools
import os
import re
from typing import Any, Final

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.tuners_utils import BaseTunerLayer, check_target_module_exists
from transformers import AutoModelForImageTextToText

from star_r1.errors import UserError
from star_r1.model.loading import check_trainable, load_adapter, load_processor, load_weights
from star_r1.model.published import read_config
from star_r1.train.launch import read_launch

LORA: Final[dict[str, Any]] = {
    "lora_r": 16,
    "lora_alpha": 32,
    "lora_dropout": 0.05,
    # "all-linear" would reach into the vision tower
    "lora_target_modules": r".*language_model.*(q_proj|v_proj)$",
}
"""Flag -> what a fresh adapter has unless told otherwise."""


def configure(arguments: Any) -> LoraConfig | None:
    """The adapter that is trained, or None where all parameters are.

    Args:
        arguments: ``StarArguments``. What they leave open is the adapter's that the run starts
            from, or ``LORA``.

    Raises:
        UserError: they contradict the adapter that the run starts from.
    """
    if not arguments.use_peft:
        return None
    given = {name: getattr(arguments, name) for name in LORA}
    if arguments.source.adapter is None:
        chosen = {name: LORA[name] if value is None else value for name, value in given.items()}
        return LoraConfig(
            task_type="CAUSAL_LM",
            r=chosen["lora_r"],
            lora_alpha=chosen["lora_alpha"],
            lora_dropout=chosen["lora_dropout"],
            target_modules=chosen["lora_target_modules"],
        )
    config = arguments.source.lora()
    for name, has in (("lora_r", config.r), ("lora_alpha", config.lora_alpha)):
        if given[name] not in (None, has):
            raise UserError(
                f"--{name} {given[name]}: the adapter {arguments.model_name_or_path}, which is "
                f"trained on, has {has}; give that, or leave it off"
            )
    # a matter of the training that is over; without it the policy updated is the one that sampled
    config.lora_dropout = given["lora_dropout"] or 0.0
    return config


def build(arguments: Any, config: Any, *, reference: bool = False, divided: bool = False) -> Any:
    """The model as it will be trained, without storage; what cannot be trained is refused here.

    Args:
        arguments: ``StarArguments``.
        config: of the full weights.
        reference: whether an adapter that is trained on gets a frozen copy of itself.
        divided: whether FSDP or DeepSpeed divides the weights.

    Raises:
        UserError: a family that cannot be trained here; an adapter that does not fit it, or reaches
            what the flags keep as it is.
    """
    check_trainable(config)
    attention = arguments.attn_implementation
    try:
        with torch.device("meta"):
            model = AutoModelForImageTextToText.from_config(config, attn_implementation=attention)
    except (ImportError, ValueError) as error:
        raise UserError(f"--attn_implementation {attention}: {_line(error)}") from None
    if arguments.freeze_vision:
        model.model.visual.requires_grad_(False)
    chosen = configure(arguments)
    if arguments.source.adapter is not None:
        wrapped = load_adapter(model, arguments.source, chosen or arguments.source.lora(), True)
        if chosen is None:
            if divided:
                raise UserError(
                    f"{arguments.model_name_or_path} is an adapter; without --use_peft true it is "
                    "merged into the full weights, which FSDP and DeepSpeed do not allow: merge it "
                    "beforehand (docs/training.md says how), or give --use_peft true"
                )
            return _merge(wrapped, arguments)
        _check_targets(wrapped, arguments)
        _check_reach(wrapped, arguments)
        if reference:
            wrapped.add_adapter("ref", chosen, low_cpu_mem_usage=True)
        return wrapped
    if chosen is None:
        return model
    try:
        wrapped = get_peft_model(model, chosen, low_cpu_mem_usage=True)
    except (ValueError, re.error) as error:
        said = "matches no module" if "not found in" in str(error) else _line(error)
        raise UserError(
            f"--lora_target_modules {chosen.target_modules!r}: {said} of "
            f"{arguments.model_name_or_path}; try {LORA['lora_target_modules']!r}"
        ) from None
    _check_reach(wrapped, arguments)
    return wrapped


def load(arguments: Any) -> tuple[Any, Any]:
    """The model with its weights, and its processor; a fresh adapter is TRL's to attach.

    Raises:
        UserError: they are not there, do not load, or cannot be trained as ``build`` sees it.
    """
    source = arguments.source
    divided = read_launch(None, os.environ).division != "none"
    build(arguments, read_config(source, fetch=True), divided=divided)  # before gigabytes are read
    model = load_weights(source, getattr(torch, arguments.dtype), arguments.attn_implementation)
    if arguments.freeze_vision:
        model.model.visual.requires_grad_(False)
    if source.adapter is not None:
        chosen = configure(arguments)
        wrapped = load_adapter(model, source, chosen or source.lora(), trained=True)
        model = _merge(wrapped, arguments) if chosen is None else _saved_alone(wrapped)
    bounds = (arguments.min_pixels, arguments.max_pixels)
    return model, load_processor(arguments.model_name_or_path, *bounds)


def _saved_alone(wrapped: PeftModel) -> PeftModel:
    """The same, saved without TRL's ``ref``, which every resume copies anew from the start."""
    wrapped.save_pretrained = functools.partial(
        wrapped.save_pretrained, selected_adapters=["default"]
    )
    return wrapped


def _merge(wrapped: PeftModel, arguments: Any) -> Any:
    """The full weights with the adapter in them, all of them to be trained.

    Raises:
        UserError: the adapter changes embeddings that are also the output layer.
    """
    text = wrapped.config.get_text_config()
    ends = ("embed_tokens", "lm_head")
    targets = wrapped.base_model.targeted_module_names
    if wrapped.config.tie_word_embeddings and any(name.endswith(ends) for name in targets):
        raise UserError(
            f"adapter {arguments.model_name_or_path}: it changes embeddings that are also the "
            f"output layer of this {text.model_type}, so it cannot be merged; give --use_peft true"
        )
    frozen = arguments.freeze_vision
    model = wrapped.merge_and_unload()
    model.requires_grad_(True)
    if frozen:
        model.model.visual.requires_grad_(False)
    model.config._name_or_path = ""  # these weights are on no disk
    return model


def _check_targets(wrapped: PeftModel, arguments: Any) -> None:
    """That ``--lora_target_modules`` names the modules of the adapter that is trained on.

    Raises:
        UserError: it names others.
    """
    given = arguments.lora_target_modules
    if given is None:
        return
    asked = LoraConfig(target_modules=given)
    names = [
        name.removesuffix(".base_layer")
        for name, module in wrapped.get_base_model().named_modules()
        if isinstance(module, torch.nn.Linear) and ".lora_" not in name
    ]
    try:
        found = {name for name in names if check_target_module_exists(asked, name)}
    except re.error as error:
        raise UserError(f"--lora_target_modules {given!r}: {_line(error)}") from None
    if found != set(wrapped.base_model.targeted_module_names):
        raise UserError(
            f"--lora_target_modules {given!r}: the adapter {arguments.model_name_or_path}, which "
            "is trained on, is of other modules; leave it off"
        )


def _check_reach(wrapped: PeftModel, arguments: Any) -> None:
    """That an adapter leaves alone what is to be left alone.

    Raises:
        UserError: it does not, or nothing is left of what is to be trained.
    """
    if isinstance(wrapped.get_output_embeddings(), BaseTunerLayer):
        raise UserError(
            "an adapter on lm_head cannot be trained: log-probabilities are computed from its "
            "weight directly; leave lm_head out of --lora_target_modules"
        )
    trained = [name for name, p in wrapped.named_parameters() if p.requires_grad]
    reached = any(".visual." in name for name in trained)
    if reached and arguments.freeze_vision:
        raise UserError(
            "the adapter reaches into the vision tower, which --freeze_vision keeps as it is; give "
            "--freeze_vision false, or --lora_target_modules with language_model in it"
        )
    if not reached and not arguments.freeze_vision:
        raise UserError(
            "--freeze_vision false: with LoRA only the adapter is trained, and none of it is in "
            "the vision tower; leave it off, or give other --lora_target_modules"
        )


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())
