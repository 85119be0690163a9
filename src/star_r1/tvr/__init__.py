"""The task: vocabulary, scenes, changes, prompts, answers. Standard library and numpy only."""

from star_r1.tvr.answer import Answer, Prediction, parse_answer
from star_r1.tvr.change import Change, difference, format_changes, parse_changes, replay
from star_r1.tvr.prompt import INSTRUCTION, build_prompt
from star_r1.tvr.sample import Sample
from star_r1.tvr.sampler import CountPixels, SceneRules, draw_sample
from star_r1.tvr.scene import STANDARD_RIG, Object, Rig, Scene

__all__ = [
    "INSTRUCTION",
    "STANDARD_RIG",
    "Answer",
    "Change",
    "CountPixels",
    "Object",
    "Prediction",
    "Rig",
    "Sample",
    "Scene",
    "SceneRules",
    "build_prompt",
    "difference",
    "draw_sample",
    "format_changes",
    "parse_answer",
    "parse_changes",
    "replay",
]
