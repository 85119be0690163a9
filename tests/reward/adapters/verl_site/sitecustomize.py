"""Read by every Python of verl's environment when it starts, those of Ray's workers too.

The torchvision of PyPI is built for CUDA: beside a CPU torch its operators do not load, and its
import fails where it describes them. Declared before, they need not be there (torchvision 0.28).
Most of Ray's processes never ask for torchvision, so torch waits until one does.
"""

import sys
from importlib.abc import MetaPathFinder
from typing import Any


class Declare(MetaPathFinder):
    """Finds nothing, but is asked first."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name != "torchvision":
            return
        sys.meta_path.remove(self)
        import torch

        if torch.version.cuda is None:
            self.library = torch.library.Library("torchvision", "DEF")
            for operator in ("nms", "qnms"):
                self.library.define(
                    f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
                )


declare = Declare()
sys.meta_path.insert(0, declare)
