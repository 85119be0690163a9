"""The task: vocabulary, scenes, changes, prompts, answers. Standard library and numpy only."""

from star_r1.tvr.answer import Answer, Prediction, parse_answer, whole
from star_r1.tvr.change import Change, difference, format_changes, parse_changes, replay
from star_r1.tvr.prompt import build_instruction, build_prompt
from star_r1.tvr.sample import Sample
from star_r1.tvr.sampler import CountPixels, SceneRules, draw_sample
from star_r1.tvr.scene import STANDARD_RIG, Object, Rig, Scene
from star_r1.tvr.vocabulary import STANDARD, TRANCE, Vocabulary, camera_position

__all__ = [
    "STANDARD",
    "STANDARD_RIG",
    "TRANCE",
    "Answer",
    "Change",
    "CountPixels",
    "Object",
    "Prediction",
    "Rig",
    "Sample",
    "Scene",
    "SceneRules",
    "Vocabulary",
    "build_instruction",
    "build_prompt",
    "camera_position",
    "difference",
    "draw_sample",
    "format_changes",
    "parse_answer",
    "parse_changes",
    "replay",
    "whole",
]
