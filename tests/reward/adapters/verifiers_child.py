"""Run by an environment with verifiers: loads our taskset as it does, and scores some replies.

Reads JSON from stdin: ``taskset`` (the config of the taskset) and ``replies``, one a task: a text,
or a message's ``content`` and ``reasoning_content``. Prints what it saw as JSON, on the last line.
"""

import asyncio
import json
import sys

import verifiers.v1 as vf
from verifiers.v1.graph import MessageNode
from verifiers.v1.types import AssistantMessage
from verifiers.v1.utils.loaders import load_environment, load_taskset, resolve_env_config


def make_trace(reply):
    if isinstance(reply, str):
        return vf.Trace.model_construct(root_reply=reply, rewards={}, metrics={})
    message = AssistantMessage(**reply)
    node = MessageNode.model_construct(message=message, sampled=True)
    return vf.Trace.model_construct(nodes=[node], rewards={}, metrics={})


async def main() -> None:
    asked = json.load(sys.stdin)
    config = resolve_env_config({"taskset": asked["taskset"]})
    seen = {"environment": type(load_environment(config)).__name__, "tasks": []}
    for task, reply in zip(load_taskset(config.taskset), asked["replies"], strict=True):
        trace = make_trace(reply)
        await task.score(trace)
        seen["tasks"].append(
            {
                "id": task.data.id,
                "prompt": [message.model_dump() for message in task.data.prompt],
                "rewards": {name: reward.value for name, reward in trace.rewards.items()},
                "metrics": trace.metrics,
            }
        )
    print(json.dumps(seen))


if __name__ == "__main__":
    asyncio.run(main())
