"""The output layer under FSDP2, gathered so that its gradient is that of all processes."""

from typing import Any

import torch
from torch.distributed.fsdp import FSDPModule


def gather_head(model: Any) -> None:
    """Let FSDP itself gather the output layer of ``model`` for each pass through it.

    accelerate makes a unit of the output layer. TRL's fused head reads its weight without calling
    it, so that FSDP does not gather it, and TRL does so by ``full_tensor``. Its gradient is then
    what each process has for its own part, where FSDP's is the mean over all processes (accelerate
    1.15, TRL 1.16). Elsewhere nothing is changed.
    """

    def gather(module: Any, args: Any) -> None:
        head = model.get_output_embeddings()
        if isinstance(head, FSDPModule):
            head.unshard()

    def release(module: Any, args: Any, output: Any) -> None:
        head = model.get_output_embeddings()
        if isinstance(head, FSDPModule) and not torch.is_grad_enabled():  # else after the backward
            head.reshard()

    model.register_forward_pre_hook(gather)
    model.register_forward_hook(release)
