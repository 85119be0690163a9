"""Stands in for vLLM: keeps what TRL's side of it hands over. It computes nothing."""

from types import SimpleNamespace
from typing import Any

import pytest
from torch import Tensor
from trl.generation import vllm_generation


class FakeVLLM:
    """As much of ``vllm.LLM`` as TRL's colocated mode calls."""

    def __init__(self, image_token_id: int, repeat: int, context: int) -> None:
        self.image_token_id, self.repeat = image_token_id, repeat
        self.prompts: list[dict[str, Any]] = []
        self.settings: dict[str, Any] = {}
        self.weights: dict[str, Tensor] = {}
        self.calls: list[str] = []
        runner = SimpleNamespace(model=SimpleNamespace(load_weights=self._load))
        self.llm_engine = SimpleNamespace(
            model_config=SimpleNamespace(max_model_len=context),
            model_executor=SimpleNamespace(driver_worker=SimpleNamespace(model_runner=runner)),
            reset_encoder_cache=lambda: self.calls.append("reset_encoder_cache"),
        )

    def _load(self, named: list[tuple[str, Tensor]]) -> None:
        self.weights |= {name: tensor.clone() for name, tensor in named}
        self.calls.append("load_weights")

    def reset_prefix_cache(self) -> None:
        self.calls.append("reset_prefix_cache")

    def generate(self, prompts: Any, sampling_params: Any, **kwargs: Any) -> list[Any]:
        """One and the same word; each placeholder of a picture is repeated, as vLLM does."""
        self.prompts, self.settings = prompts, vars(sampling_params)
        word = SimpleNamespace(
            token_ids=[300], logprobs=[{300: SimpleNamespace(rank=1, logprob=0.0)}]
        )
        return [
            SimpleNamespace(prompt_token_ids=self._expand(row["prompt_token_ids"]), outputs=[word])
            for row in prompts
        ]

    def _expand(self, ids: list[int]) -> list[int]:
        return [
            token
            for token in ids
            for _ in range(self.repeat if token == self.image_token_id else 1)
        ]


def colocated(
    monkeypatch: pytest.MonkeyPatch, image_token_id: int, repeat: int, context: int = 4096
) -> FakeVLLM:
    """Let every trainer that is made from now on have this for its colocated vLLM.

    Args:
        monkeypatch: undoes it.
        image_token_id: the placeholder of pictures.
        repeat: visual tokens of a picture, as vLLM's own processor counts them.
        context: tokens that prompt and completion may take.
    """
    fake = FakeVLLM(image_token_id, repeat, context)

    def start(self: Any) -> None:
        self.llm = fake

    monkeypatch.setattr(vllm_generation.VLLMGeneration, "_init_vllm", start)
    monkeypatch.setattr(vllm_generation, "SamplingParams", SimpleNamespace, raising=False)
    return fake
