"""Tokens that stand for pictures get no probability, wherever logits are computed.

At temperature 1 a policy samples them sooner or later, and the next forward pass then looks for a
picture that is not there (huggingface/trl#3847). HF generate can suppress them, but its
log-probabilities are still computed with them; a bias of the output layer does both alike, in
sampling, policy and reference. It is no parameter and is never saved.
"""

from typing import Any, Final

import torch
from peft.utils import ModulesToSaveWrapper
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, Replicate

NEVER: Final = -1e4
"""Added to a logit, it leaves no probability in float32, float16 or bfloat16."""


class _MaskedHead(nn.Linear):
    """An output layer whose bias is a buffer, ``never``."""

    never: Tensor

    @property
    def bias(self) -> Tensor:  # type: ignore[override]
        """``never``, in the form of the weight: TRL gathers both where the model is sharded.

        FSDP2 makes the weight a DTensor; ZeRO-3 gives it a ``ds_status`` (TRL 1.16).
        """
        weight: Any = self.weight
        bias: Any = self.never
        if isinstance(weight, DTensor):
            mesh = weight.device_mesh
            return DTensor.from_local(bias, mesh, [Replicate()] * mesh.ndim, run_check=False)
        if hasattr(weight, "ds_status"):
            bias.ds_status = type(weight.ds_status).AVAILABLE
        return bias  # type: ignore[no-any-return]


def forbid_vision_tokens(model: Any) -> None:
    """Take all probability from the image and video placeholders of ``model``, a Qwen-VL, once.

    (Their output layers have no bias of their own.)
    """
    head = model.get_output_embeddings()
    if isinstance(head, ModulesToSaveWrapper):  # an adapter that trains the whole output layer
        heads = [head.original_module, *head.modules_to_save.values()]
    else:
        heads = [head]
    for head in heads:
        if not isinstance(head, _MaskedHead):
            _forbid(head, model.config)


def _forbid(head: Any, config: Any) -> None:
    # the weight itself is empty where ZeRO-3 has divided it while loading
    never = torch.zeros(head.out_features, dtype=head.weight.dtype, device=head.weight.device)
    never[[config.image_token_id, config.video_token_id]] = NEVER
    del head.bias
    head.register_buffer("never", never, persistent=False)
    head.__class__ = _MaskedHead
