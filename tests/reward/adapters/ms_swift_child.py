"""Run by an environment with ms-swift, in an export: loads plugin and data as it does.

Reads JSON from stdin: ``flags`` (what ``run.sh`` gives ``swift rlhf``), ``names`` for
``--reward_funcs`` and ``completions``, one a row. Prints what it saw as JSON, on the last line.
"""

import json
import sys

from swift.arguments import RLHFArguments
from swift.dataset import load_dataset
from swift.rewards import ORM
from swift.rlhf_trainers.utils import resolve_reward_funcs
from swift.utils import import_external_file
from transformers import HfArgumentParser


def main() -> None:
    asked = json.load(sys.stdin)
    import_external_file("plugin.py")
    import trl  # the real one: the plugin's folder comes first on the path now

    functions, names = resolve_reward_funcs(asked["names"], args=object())
    rows, _ = load_dataset(["train.jsonl"], split_dataset_ratio=0, remove_unused_columns=False)
    columns = {name: rows[name] for name in ("id", "messages", "images", "ground_truth")}
    known, unknown = HfArgumentParser(RLHFArguments).parse_known_args(asked["flags"])
    seen = {
        "unknown": unknown,
        "beta": known.beta,
        "plugins": known.external_plugins,
        "trl": trl.__version__,
        "names": names,
        "orm": all(isinstance(function, ORM) for function in functions),
        "ids": list(columns["id"]),
        "images": [[image["path"] for image in images] for images in columns["images"]],
        "rewards": [function(asked["completions"], **columns) for function in functions],
    }
    print(json.dumps(seen))


if __name__ == "__main__":
    main()
