"""``star-r1 demo``: the whole loop at a small size, from pictures to a page, on a CPU."""

import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from star_r1.errors import UserError
from star_r1.evaluate.compare import Estimate, compare
from star_r1.files import write_atomic
from star_r1.metrics import Measured, Scores
from star_r1.provenance import provenance
from star_r1.tvr.sampler import SceneRules
from star_r1.tvr.vocabulary import VIEWS

TRAIN_SAMPLES: Final = 640
"""Pairs to learn from, center view only."""
TEST_SAMPLES: Final = 300
"""Each asked from the center, the left and the right."""
SIZE: Final = (160, 120)
SAMPLES_PER_PIXEL: Final = 8
RULES: Final = SceneRules(visible=(2, 5), changes=(1, 2))
TRAIN_SEED, TEST_SEED = 1_000_000, 2_000_000
"""Added to the demo's seed, so that none below a million trains on what another one tests."""
MODEL: Final = "mini"
WORKERS: Final = 2
MAX_NEW_TOKENS: Final = 256

RECIPE: Final = Path(__file__).parents[2] / "recipes" / "mini-grpo.yaml"
SHOWN: Final = ("overall", *VIEWS, "ood")


def run(out: Path, seed: int) -> None:
    """Make pictures, evaluate the embedded model, train it by GRPO, evaluate again, and report.

    ``out`` receives train/ and test/ (pictures), base/ and trained/ (evaluations), grpo/ (the
    trained model), report.html and summary.json (TAcc by view before and after with its 95%
    interval, seconds of each stage, seed, commit, machine, date). An interrupted demo goes on
    where it stopped when called again.

    Args:
        out: made if absent.
        seed: of the pictures and of the training.

    Raises:
        UserError: not run from a clone, or ``out`` holds a demo with other settings.
        SystemExit: the training was interrupted.
    """
    # Threads that spin while they wait slow each other down tenfold on a busy machine. Read when
    # torch loads, which is why nothing above imports it.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from star_r1.data.build import generate
    from star_r1.evaluate.run import evaluate
    from star_r1.model.source import resolve
    from star_r1.report.page import write_report
    from star_r1.train import grpo

    if not RECIPE.is_file():
        raise UserError(f"the demo needs {RECIPE}; run it from a clone of the repository")
    train, test, trained = out / "train", out / "test", out / "grpo"
    weights = Path(resolve(MODEL)) / "model.safetensors"
    stages = _Stages(
        out / "stages.json",
        {
            "seed": seed,
            "samples": [TRAIN_SAMPLES, TEST_SAMPLES],
            "size": list(SIZE),
            "recipe": hashlib.sha256(RECIPE.read_bytes()).hexdigest(),
            "weights": hashlib.sha256(weights.read_bytes()).hexdigest(),
        },
    )

    def pictures(folder: Path, samples: int, offset: int, views: tuple[str, ...]) -> None:
        generate(
            folder,
            samples,
            offset + seed,
            size=SIZE,
            views=views,
            rules=RULES,
            workers=WORKERS,
            split=folder.name,
            samples_per_pixel=SAMPLES_PER_PIXEL,
        )

    def learn() -> None:
        flags = {
            "config": RECIPE,
            "model_name_or_path": MODEL,
            "data": train,
            "output_dir": trained,
            "seed": seed,
        }
        code = grpo.main(
            [word for name, value in flags.items() for word in (f"--{name}", str(value))]
        )
        if code:
            raise SystemExit(code)

    def answer(model: str, folder: Path) -> None:
        evaluate(model, test, folder, max_new_tokens=MAX_NEW_TOKENS)

    base, after, page = out / "base", out / "trained", out / "report.html"
    stages.do(
        "pictures to train on", lambda: pictures(train, TRAIN_SAMPLES, TRAIN_SEED, ("center",))
    )
    stages.do("pictures to test on", lambda: pictures(test, TEST_SAMPLES, TEST_SEED, VIEWS))
    stages.do("evaluation before", lambda: answer(MODEL, base))
    stages.do("training", learn)
    stages.do("evaluation after", lambda: answer(str(trained), after))
    stages.do("report", lambda: write_report([base, trained, after], page))

    before, now = _scores(base), _scores(after)
    change = compare({"base": [base], "trained": [after]}, groups=SHOWN, metrics=("tacc",))
    summary = {
        "seed": seed,
        "base": {group: before[group]["tacc"] for group in SHOWN},
        "trained": {group: now[group]["tacc"] for group in SHOWN},
        "seconds": {**stages.seconds, "total": round(sum(stages.seconds.values()), 1)},
        **provenance(),
    }
    write_atomic(out / "summary.json", json.dumps(summary, indent=1) + "\n")
    console = Console()
    console.print(_table(before, now, change.differences["trained"]))
    console.print(f"Look at {page.resolve().as_uri()}", soft_wrap=True, highlight=False)


class _Stages:
    """The stages that are done, and the seconds each has taken, interrupted attempts included."""

    def __init__(self, path: Path, settings: dict[str, Any]) -> None:
        self.path, self.settings = path, settings
        self.done: list[str] = []
        self.seconds: dict[str, float] = {}
        if not path.exists():
            return
        try:
            record = json.loads(path.read_bytes())
            before, self.done, self.seconds = (
                record[name] for name in ("settings", "done", "seconds")
            )
        except (OSError, ValueError, KeyError, TypeError):
            raise UserError(f"{path} is damaged; choose another --out") from None
        if changed := [name for name in settings if before.get(name) != settings[name]]:
            raise UserError(
                f"{path.parent} holds a demo with another {' and '.join(changed)}; "
                "choose another --out"
            )

    def do(self, name: str, work: Callable[[], None]) -> None:
        console = Console(stderr=True)
        if name in self.done:
            console.print(f"[dim]{name}: done before[/dim]")
            return
        console.rule(f"[bold]{name}", align="left")
        start = time.monotonic()
        try:
            work()
            self.done.append(name)
        finally:
            taken = self.seconds.get(name, 0.0) + time.monotonic() - start
            self.seconds[name] = round(taken, 1)
            record = {"settings": self.settings, "done": self.done, "seconds": self.seconds}
            write_atomic(self.path, json.dumps(record, indent=1) + "\n")


def _scores(folder: Path) -> Scores:
    scores: Scores = json.loads((folder / "metrics.json").read_bytes())
    return scores


def _table(
    before: Scores, now: Scores, change: Mapping[str, Mapping[str, Estimate | None]]
) -> Table:
    table = Table(
        title="TAcc: share of pairs answered exactly, with 95% interval by scenes",
        caption="change: of the same pairs; * where its interval does not hold 0",
    )
    for heading in ("final picture from", "pairs", "before", "after", "change"):
        table.add_column(heading, justify="left" if heading.startswith("final") else "right")
    for group in SHOWN:
        old, new = _percent(before[group]["tacc"]), _percent(now[group]["tacc"])
        name = {"overall": "all views", "ood": "left and right"}.get(group, group)
        table.add_row(
            name,
            str(now[group]["tacc"]["n"]),
            *("{:.1f} [{:.1f}, {:.1f}]".format(*numbers) for numbers in (old, new)),
            _points(change[group]["tacc"]),
        )
    return table


def _points(change: Estimate | None) -> str:
    """A paired difference in percentage points, marked where its interval leaves out 0."""
    assert change is not None  # TEST_SAMPLES > 0
    assert change.ci95 is not None
    low, high = (100 * end for end in change.ci95)
    mark = "*" if change.marked else ""
    return f"{100 * change.value:+.1f}{mark} [{low:+.1f}, {high:+.1f}]"


def _percent(measured: Measured) -> tuple[float, float, float]:
    """Value, low and high end of the interval."""
    assert measured["value"] is not None  # TEST_SAMPLES > 0
    assert measured["ci95"] is not None
    low, high = measured["ci95"]
    return 100 * measured["value"], 100 * low, 100 * high
