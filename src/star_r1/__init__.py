"""STAR-R1: transformation-driven visual reasoning by reinforcement learning (arXiv 2505.15804).

Importing this package is cheap: torch, the renderer and the dataset library are imported by the
modules that need them, never here.
"""

__version__ = "0.1.0"
