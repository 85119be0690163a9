"""Run by an environment with Inspect: evaluates our task by its Python interface.

Reads a list of runs as JSON from stdin: ``task`` (arguments of the task), ``completions`` (by id,
one an epoch) and ``split``: whether they come as from a provider that takes the think block out.
Prints what it saw of each as JSON, on the last line.
"""

import json
import sys
from collections import Counter
from typing import Any

from inspect_ai import eval as run_task
from inspect_ai.model import (
    ChatCompletionChoice,
    ChatMessageAssistant,
    ModelOutput,
    ModelUsage,
    get_model,
)
from inspect_ai.model._openai import chat_message_assistant_from_openai
from openai.types.chat import ChatCompletionMessage

from star_r1.evaluate.inspect_task import completion_text, tvr


def run(asked: dict[str, Any]) -> dict[str, Any]:
    task = tvr(**asked["task"])
    ids = {question.input[-1].content[1].image: question.id for question in task.dataset}
    calls: Counter[str] = Counter()

    def answer(messages: list[Any], *_: Any) -> ModelOutput:
        id = ids[messages[-1].content[1].image]
        message = speak(asked["completions"][id][calls[id]], asked["split"])
        calls[id] += 1
        choice = ChatCompletionChoice(message=message, stop_reason="stop")
        return ModelOutput(model="mockllm", choices=[choice], usage=ModelUsage())

    epochs = len(next(iter(asked["completions"].values())))
    questions = [question.model_dump() for question in task.dataset]
    model = get_model("mockllm/model", custom_outputs=answer)
    (log,) = run_task(task, model=model, epochs=epochs, max_samples=1, display="none")
    assert log.status == "success", log.error
    return {
        "questions": questions,
        "metrics": {name: of.value for name, of in log.results.scores[0].metrics.items()},
        "headline": log.results.headline.metric,
        "samples": [
            {
                "id": sample.id,
                "text": completion_text(sample.output),
                "value": sample.scores["tvr"].value,
            }
            for sample in log.samples
        ],
    }


def speak(text: str, split: bool) -> ChatMessageAssistant:
    if not split:
        return ChatMessageAssistant(content=text)
    said = ChatCompletionMessage(role="assistant", content=text)
    return chat_message_assistant_from_openai("model", said, [])


if __name__ == "__main__":
    print(json.dumps([run(asked) for asked in json.load(sys.stdin)]))
