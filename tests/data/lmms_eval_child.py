"""Run by an environment with lmms-eval: evaluates an exported task by its Python interface.

Reads JSON from stdin: ``folder`` (the export), ``completions`` (by id, one in a list) and ``chat``:
whether the model takes messages, or text and pictures. Prints what it saw as JSON, on the last
line.
"""

import json
import sys
from typing import Any

import numpy as np
from lmms_eval.api.model import lmms
from lmms_eval.evaluator import simple_evaluate
from lmms_eval.protocol import ChatMessages
from lmms_eval.tasks import TaskManager


class Parrot(lmms):
    """Says what it was given."""

    def __init__(self, completions: dict[str, list[str]], chat: bool) -> None:
        super().__init__()
        self.is_simple = not chat
        self.completions, self.asked = completions, []

    def generate_until(self, requests: list[Any]) -> list[str]:
        return [self.answer(*request.args) for request in requests]

    def answer(self, context: str, *rest: Any) -> str:
        *of_kind, number, task, split = rest
        row = self.task_dict[task][split][number]
        if self.is_simple:
            kwargs, to_visual = of_kind
            asked = [context, *map(pixels, to_visual(row))]
        else:
            to_messages, kwargs = of_kind
            messages = ChatMessages(messages=to_messages(row)).to_hf_messages()
            asked = [
                {"role": message["role"], "content": [*map(show, message["content"])]}
                for message in messages
            ]
        self.asked.append({"id": row["id"], "asked": asked, "kwargs": kwargs})
        (completion,) = self.completions[row["id"]]
        return completion

    def loglikelihood(self, requests: list[Any]) -> Any:
        raise NotImplementedError

    generate_until_multi_round = loglikelihood


def show(part: dict[str, Any]) -> Any:
    return part["text"] if part["type"] == "text" else pixels(part["image"])


def pixels(picture: Any) -> Any:
    return np.asarray(picture).tolist()


def main() -> None:
    asked = json.load(sys.stdin)
    parrot = Parrot(asked["completions"], asked["chat"])
    results = simple_evaluate(
        model=parrot,
        tasks=["tvr"],
        task_manager=TaskManager(include_path=asked["folder"], include_defaults=False),
        batch_size=1,
        bootstrap_iters=0,
    )
    print(json.dumps({"results": results["results"]["tvr"], "asked": parrot.asked}, default=str))


if __name__ == "__main__":
    main()
