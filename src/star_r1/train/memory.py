"""The memory of one card in training, estimated before anything is loaded.

What stays on the card is counted parameter by parameter and divided as the launch says. What a
step needs besides is counted for the longest completions: the tensors that one layer keeps for its
backward pass are found by running the real layer on fake tensors (shapes without storage), and
multiplied by the number of layers. Not counted: the allocator's fragments, the CUDA context and the
kernels' workspaces (1-2 GB together), the passes without gradient of the vision tower and of
prompts before sampling. What a layer keeps, and the peak of sampling, are compared with real passes
on a CPU by the tests; on cards nothing has been compared yet, so leave a tenth of the card free.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from trl.kernels.chunked_logprob import TOKEN_CHUNK_SIZE
from trl.trainer.utils import _CHUNKED_LOGPROB_CHUNK_SIZE as VOCABULARY_CHUNK

from star_r1.train.launch import Division, Launch

GB: Final = 1e9
CARDS: Final = (16, 24, 32, 40, 48, 80, 96, 141, 180)
"""GB of usual cards."""
FREE: Final = 0.1
"""Share of a card to leave for what is not counted."""
VLLM_ROOM: Final = 1.2
"""What vLLM needs, as a multiple of its weights: keys and values besides."""
DRAW: Final = (18, 32)
"""Bytes a logit in ``sampling.draw``; with top_k or top_p, which sort."""
BUCKET: Final = 500_000_000
"""Numbers in DeepSpeed's buffer for the gradients that are being summed, full or not (0.19)."""
LIVE: Final = 1_000_000_000
"""Parameters that ZeRO-3 has gathered, or updates, at one time."""


@dataclass(frozen=True)
class Load:
    """What one card works on at once.

    Attributes:
        prompt: tokens of the longest prompt, pictures included.
        completion: of the longest completion.
        update_prompts, update_completions: of one forward and backward pass.
        sample_prompts, sample_completions: whose keys and values are kept while sampling; 0 where
            something else samples.
        patches: of the pictures of all prompts of a pass, as the vision tower sees them.
        held_patches: of those of a generation batch, kept with their features until it is used up;
            0 where prompts are not shared.
    """

    prompt: int
    completion: int
    update_prompts: int
    update_completions: int
    sample_prompts: int = 0
    sample_completions: int = 0
    patches: int = 0
    held_patches: int = 0

    @property
    def update_tokens(self) -> int:
        """Of one forward and backward pass."""
        return self.update_prompts * self.prompt + self.update_completions * self.completion

    @property
    def sample_tokens(self) -> int:
        """Whose keys and values are kept."""
        return self.sample_prompts * self.prompt + self.sample_completions * self.completion


@dataclass(frozen=True)
class Precision:
    """Of the weights as they are loaded, and whether a pass computes in bfloat16."""

    weights: torch.dtype
    bf16: bool

    @property
    def compute(self) -> torch.dtype:
        """Of activations, keys and values."""
        return torch.bfloat16 if self.bf16 else self.weights


@dataclass(frozen=True)
class Memory:
    """Bytes on one card; ``activations`` to ``step`` come and go within a step."""

    weights: int
    gradients: int
    optimizer: int
    reference: int
    gathered: int
    communication: int
    pictures: int
    activations: int
    output_layer: int
    cache: int
    logits: int
    step: int

    @property
    def peak(self) -> int:
        """The most at one time: a pass keeps activations, sampling keys and values, and the step of
        the optimizer comes when both are gone.
        """
        stays = self.weights + self.gradients + self.optimizer + self.reference
        stays += self.gathered + self.communication + self.pictures
        passes = (self.activations + self.output_layer, self.cache + self.logits, self.step)
        return stays + max(passes)


def smallest_card(peak: int, share: float = 0.0, beside: int = 0) -> int | None:
    """GB of the smallest usual card with room for both, or None.

    Args:
        peak: bytes of training.
        share: of the card that vLLM takes, 0-1.
        beside: bytes of the weights that vLLM keeps in its share.

    >>> smallest_card(20_000_000_000), smallest_card(20_000_000_000, 0.3, 16_000_000_000)
    (24, 80)
    """
    return next(
        (
            card
            for card in CARDS
            if peak <= card * GB * (1 - share - FREE) and VLLM_ROOM * beside <= card * GB * share
        ),
        None,
    )


def count_parameters(model: nn.Module) -> tuple[int, int]:
    """Trained ones, frozen ones; tied ones once."""
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return trained, sum(p.numel() for p in model.parameters()) - trained


def estimate(
    model: Any,
    load: Load,
    precision: Precision,
    launch: Launch,
    *,
    optimizer: str,
    reference: bool,
    checkpointing: bool,
    nucleus: bool = False,
) -> Memory:
    """What a training step takes on each card; the module says what it leaves out.

    Args:
        model: without storage, its frozen parameters marked, its adapter attached.
        load: what a card works on at once.
        precision: of weights and passes.
        launch: how many cards, and how they divide the model.
        optimizer: the name of ``--optim``; one with 8bit in it keeps two bytes a trained parameter,
            any other two numbers (AdamW).
        reference: whether a second model is kept for the KL term.
        checkpointing: whether a layer keeps its input only and runs twice.
        nucleus: whether top_k or top_p is set.
    """
    trained, frozen = count_parameters(model)
    adapter = getattr(model, "peft_config", None) is not None
    held = precision.weights.itemsize
    kept = _kept_bytes(precision, launch.division, adapter)
    moments = 2 if "8bit" in optimizer else kept["moments"]
    shares = {
        part: launch.processes if launch.division in divided else 1
        for part, divided in (
            ("weights", ("zero3", "fsdp")),
            ("gradients", ("zero2", "zero3", "fsdp")),
            ("optimizer", ("zero1", "zero2", "zero3", "fsdp")),
        )
    }
    buckets = 2 if launch.division == "none" and launch.processes > 1 else 1  # DDP's copy
    base = model.get_base_model() if adapter else model
    text, layers = base.config.get_text_config(), base.model.language_model.layers
    head = base.get_output_embeddings().weight
    tokens, compute = load.update_tokens, precision.compute.itemsize
    autocast = precision.bf16 and held == 4 and launch.division == "none"
    layer, copies = layer_bytes(
        layers[0], text, tokens, torch.float32 if autocast else precision.compute, autocast
    )
    inputs = len(layers) * tokens * text.hidden_size * compute
    activations = inputs + layer if checkpointing else len(layers) * layer
    activations += copies if checkpointing else len(layers) * copies
    if any(p.requires_grad for p in base.model.visual.parameters()):
        activations += _vision_bytes(base.config.vision_config, load.patches, compute)
    scored = load.update_completions * load.completion
    tile = min(scored, TOKEN_CHUNK_SIZE) * min(head.shape[0], VOCABULARY_CHUNK) * compute
    whole = sum(p.numel() for p in layers[0].parameters())
    gathered, communication, step = 0, 0, 0
    if launch.division == "fsdp" and launch.processes > 1:
        # this layer and the next, and the output layer; the gradients of this layer and the last
        gathered = (2 * whole + head.numel()) * compute
        communication = 2 * sum(p.numel() for p in layers[0].parameters() if p.requires_grad)
        communication *= compute
    elif launch.division.startswith("zero"):
        gathered = (shares["weights"] > 1) * min(LIVE, trained + frozen) * compute
        communication = BUCKET * compute
        own = trained // shares["optimizer"]  # their gradients in float32, for the optimizer
        step = 4 * (min(LIVE, own) if launch.division == "zero3" else own)
    return Memory(
        weights=(trained * kept["trained"] + frozen * kept["frozen"]) // shares["weights"],
        gradients=trained * kept["gradients"] * buckets // shares["gradients"],
        optimizer=trained * (kept["masters"] + moments) // shares["optimizer"],
        reference=reference * (trained + frozen) * kept["frozen"] // shares["weights"],
        gathered=gathered,
        communication=communication,
        pictures=_picture_bytes(base.config.vision_config, text, load.held_patches, compute),
        activations=activations,
        output_layer=2 * tile + head.requires_grad * head.numel() * 4,
        # one layer's are there twice while stopped completions are dropped
        cache=load.sample_tokens * (len(layers) + 1) * _cache_width(text) * compute,
        logits=load.sample_completions * head.shape[0] * DRAW[nucleus],
        step=step,
    )


def _picture_bytes(vision: Any, text: Any, patches: int, compute: int) -> int:
    """Pixels in float32, and features: the tower's output, and what goes into early layers."""
    levels = 1 + len(getattr(vision, "deepstack_visual_indexes", None) or ())
    channels = getattr(vision, "in_channels", None) or vision.in_chans
    pixels = channels * vision.temporal_patch_size * vision.patch_size**2
    tokens = patches // vision.spatial_merge_size**2
    return int(patches * pixels * 4 + tokens * levels * text.hidden_size * compute)


def _kept_bytes(precision: Precision, division: Division, adapter: bool) -> Mapping[str, int]:
    """Bytes a parameter of all that stays; ``moments`` are AdamW's two."""
    held = precision.weights.itemsize
    if division.startswith("zero") and precision.bf16:  # DeepSpeed keeps float32 masters
        return {"trained": 2, "frozen": 2, "gradients": 2, "masters": 4, "moments": 8}
    # FSDP2 by accelerate turns what is trained to float32, and so does PEFT with an adapter
    own = 4 if adapter or (division == "fsdp" and precision.bf16) else held
    return {"trained": own, "frozen": held, "gradients": own, "masters": 0, "moments": 2 * own}


def _cache_width(text: Any) -> int:
    """Numbers that one layer keeps of one token: keys and values."""
    head = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    return int(2 * text.num_key_value_heads * head)


def _vision_bytes(vision: Any, patches: int, compute: int) -> int:
    """Roughly what a trained vision tower keeps: 17 numbers a patch, block and channel.

    Source: Korthikanti et al. 2022 (arXiv 2205.05198), equation 2, without the attention map.
    """
    width = getattr(vision, "embed_dim", None) or vision.hidden_size
    return int(17 * patches * vision.depth * width * compute)


def layer_bytes(
    layer: nn.Module, text: Any, tokens: int, dtype: torch.dtype, autocast: bool
) -> tuple[int, int]:
    """What a decoder layer keeps for its backward pass: of the tokens, and copies of its weights.

    The copies are autocast's, in bfloat16; there are none without it.

    Args:
        layer: without storage, as it will be trained.
        text: its configuration.
        tokens: in one row.
        dtype: of the hidden states, and of the weights but for adapters.
        autocast: whether to run it in bfloat16 by autocast.
    """
    head = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    with FakeTensorMode():
        parameters = {
            name: torch.empty(p.shape, dtype=dtype, requires_grad=p.requires_grad)
            for name, p in layer.named_parameters()
        }
        hidden = torch.empty(1, tokens, text.hidden_size, dtype=dtype, requires_grad=True)
        angles = torch.empty(1, tokens, head, dtype=dtype)
        kept: dict[int, Tensor] = {}  # by storage; held, so that no storage comes twice

        def keep(tensor: Tensor) -> Tensor:
            kept[tensor.untyped_storage()._cdata] = tensor
            return tensor

        with (
            torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
            torch.autocast("cpu", torch.bfloat16, enabled=autocast),
        ):
            torch.func.functional_call(
                layer, parameters, (hidden,), {"position_embeddings": (angles, angles)}
            )
        for tensor in (*parameters.values(), angles):
            kept.pop(tensor.untyped_storage()._cdata, None)
        shapes = {tuple(sorted(p.shape)) for p in parameters.values() if p.ndim == 2}
        copies = [t for t in kept.values() if tuple(sorted(t.shape)) in shapes]
        sizes = [tensor.untyped_storage().nbytes() for tensor in kept.values()]
        of_copies = sum(tensor.untyped_storage().nbytes() for tensor in copies)
    return sum(sizes) - of_copies, of_copies


def parts(memory: Memory) -> Iterator[tuple[str, int]]:
    """Name and bytes of each part that is there."""
    names = {
        "weights": memory.weights,
        "gradients": memory.gradients,
        "optimizer": memory.optimizer,
        "reference model": memory.reference,
        "gathered weights": memory.gathered,
        "gradients on the way": memory.communication,
        "pictures held": memory.pictures,
        "activations": memory.activations,
        "output layer": memory.output_layer,
        "keys and values": memory.cache,
        "logits of sampling": memory.logits,
        "optimizer's step": memory.step,
    }
    return ((name, size) for name, size in names.items() if size)


def gigabytes(size: float) -> str:
    """Readable, to three figures.

    >>> gigabytes(16_584_333_312), gigabytes(2_500_000)
    ('16.6 GB', '0.0025 GB')
    """
    digits = max(0, 2 - math.floor(math.log10(max(size, 1) / GB)))
    return f"{size / GB:.{min(digits, 4)}f} GB"
