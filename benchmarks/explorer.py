"""Writes an explorer of 5,000 samples and two runs, opens it in Chromium, and times it.

    python benchmarks/explorer.py

needs Chromium and playwright (in the extra ``dev``), takes a few minutes, most of them to make the
data, and writes results/explorer/explorer.json. The pictures are flat masks in the objects' colors,
the answers made up: true changes, dropped and altered by chance. All times are of the page itself,
by its own clock: from the start of the navigation, or of the click, to the frame that shows it.
"""

import argparse
import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from star_r1.evaluate.scoring import score_file
from star_r1.explore.page import write_explorer
from star_r1.files import write_atomic
from star_r1.provenance import provenance
from star_r1.render.visibility import instance_mask
from star_r1.tvr.change import Change, format_changes
from star_r1.tvr.sample import Sample
from star_r1.tvr.sampler import draw_sample
from star_r1.tvr.scene import Scene
from star_r1.tvr.vocabulary import VIEWS

OUT = Path(__file__).parents[1] / "results" / "explorer"
SIZE = (160, 120)
SHARD = 500
BROWSER = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)

# Runs before the page: notes when the page answers, and when the first sample and its pictures
# are on the screen.
WATCH = """
window.times = {};
const look = () => {
  const now = performance.now();
  if (!times.interactive && document.body?.dataset.ready) times.interactive = now;
  const pictures = [...document.querySelectorAll('#detail img')];
  if (pictures.length && pictures.every((picture) => picture.complete && picture.naturalWidth)) {
    times.shown = now;
    return;
  }
  requestAnimationFrame(look);
};
requestAnimationFrame(look);
"""

# Clicks every option of every filter on and off, and types an id; each time until the frame after.
FILTER = """async () => {
  const frame = () => new Promise((done) =>
    requestAnimationFrame(() => setTimeout(done)));
  const results = [];
  const time = async (name, act) => {
    await frame();
    const begun = performance.now();
    act();
    const worked = performance.now();
    await frame();
    results.push({ name, work: worked - begun, frame: performance.now() - begun });
  };
  for (const box of document.querySelectorAll('#filters input[type=checkbox]')) {
    await time(`${box.name}=${box.value}`, () => box.click());
    await time(`${box.name}=${box.value} off`, () => box.click());
  }
  const search = document.querySelector('#search');
  for (const text of ['0', '00', '000', '0001', '00012', '']) {
    await time(`q=${text}`, () => {
      search.value = text;
      search.dispatchEvent(new Event('input'));
    });
  }
  return results;
}"""

# Steps through samples by the keyboard, until each and its pictures are there.
STEP = """async (steps) => {
  const results = [];
  for (let i = 0; i < steps; i++) {
    const before = document.querySelector('#sample-id').textContent;
    const begun = performance.now();
    document.body.dispatchEvent(new KeyboardEvent('keydown', { key: 'j', bubbles: true }));
    for (;;) {
      await new Promise(requestAnimationFrame);
      const pictures = [...document.querySelectorAll('#detail img')];
      if (document.querySelector('#sample-id').textContent !== before
        && pictures.every((picture) => picture.complete)) break;
    }
    results.push(performance.now() - begun);
  }
  return results;
}"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=5000)
    parser.add_argument("--opens", type=int, default=10)
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        data = write_data(root / "data", arguments.samples)
        runs = [write_run(root / name, data, chance) for name, chance in (("a", 0.3), ("b", 0.7))]
        begun = time.perf_counter()
        write_explorer(runs, root / "page")
        seconds = time.perf_counter() - begun
        report = {
            "command": f"python benchmarks/explorer.py --samples {arguments.samples} "
            f"--opens {arguments.opens}",
            "samples": arguments.samples,
            "runs": len(runs),
            "writing": {"seconds": round(seconds, 1), **sizes(root / "page")},
            **measure(root / "page", arguments.opens),
            **provenance(),
        }
    write_atomic(arguments.out / "explorer.json", json.dumps(report, indent=1) + "\n")
    print(json.dumps(report, indent=1))


def write_data(folder: Path, count: int) -> Path:
    """A dataset of so many rows, the three views of each scene."""
    from star_r1.data.shards import make_row, to_parquet

    samples: list[Sample] = []
    while len(samples) < count:
        index = len(samples) // len(VIEWS)
        drawn = draw_sample(0, index, lambda scene, *_: {o.index: 999 for o in scene.visible})
        samples += [drawn.seen_from(view) for view in VIEWS]
    samples = samples[:count]
    (folder / "data").mkdir(parents=True)
    shards = -(-count // SHARD)
    for shard in range(shards):
        rows = [
            make_row(sample, (picture(sample.initial, sample, "center"),
                              picture(sample.final, sample, sample.view)), {})
            for sample in samples[shard * SHARD : (shard + 1) * SHARD]
        ]  # fmt: skip
        path = folder / "data" / f"test-{shard:05d}-of-{shards:05d}.parquet"
        path.write_bytes(to_parquet(rows))
    return folder


def picture(scene: Scene, sample: Sample, view: str) -> bytes:
    """The objects in flat colors on grey."""
    from star_r1.data.shards import encode_png

    colors = np.full((256, 3), 128, np.uint8)
    for thing in scene.visible:
        colors[thing.index] = scene.vocabulary.colors[thing.color]
    return encode_png(colors[instance_mask(scene, sample.rig, view, SIZE)])


def write_run(folder: Path, data: Path, chance: float) -> Path:
    """A run that is right with about this probability."""
    from star_r1.data.dataset import SAMPLE_COLUMNS, read_columns, row_to_sample

    rng = np.random.default_rng(round(100 * chance))
    folder.mkdir()
    with (folder / "predictions.jsonl").open("w") as file:
        for row in read_columns(data, SAMPLE_COLUMNS):
            sample = row_to_sample(row)
            reasoning = "\n".join(
                f"{before.index}: {before.describe()} now {after.describe()}"
                for before, after in zip(sample.initial.visible, sample.final.objects, strict=False)
            )
            said = sample.changes
            if rng.random() > chance:
                said = tuple(altered(sample.changes, rng))
            text = f"<think>{reasoning}</think><answer>{format_changes(said)}</answer>"
            file.write(json.dumps({"id": sample.id, "completion": text}) + "\n")
    scores = score_file(data, folder / "predictions.jsonl")
    (folder / "metrics.json").write_text(json.dumps(scores))
    about = {"model": folder.name, "data": str(data), "n": scores["overall"]["tacc"]["n"]}
    (folder / "run.json").write_text(json.dumps(about))
    return folder


def altered(changes: Iterable[Change], rng: np.random.Generator) -> Iterable[Change]:
    for change in changes:
        luck = rng.random()
        if luck < 0.3:
            yield change
        elif luck < 0.6:
            yield Change((change.index + 1) % 10, change.attribute, change.value)
        elif luck < 0.8:
            yield Change(change.index, "color", "cyan")


def sizes(folder: Path) -> dict[str, int]:
    """Files and bytes of a page."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {
        "files": len(files),
        "bytes": sum(path.stat().st_size for path in files),
        "index_bytes": (folder / "data" / "index.js").stat().st_size,
    }


def measure(page: Path, opens: int) -> dict[str, Any]:
    """Open the page several times, each in a fresh profile; filter and step through the last."""
    from playwright.sync_api import sync_playwright

    path = shutil.which("chromium") or shutil.which("chromium-browser")
    times = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(BROWSER))
        for _ in range(opens):
            context = browser.new_context(viewport={"width": 1440, "height": 900})
            context.add_init_script(WATCH)
            tab = context.new_page()
            tab.goto(f"file://{page}/index.html")
            while not tab.evaluate("window.times.shown"):
                time.sleep(0.05)
            times.append(tab.evaluate("window.times"))
            if len(times) < opens:
                context.close()
        filters = tab.evaluate(FILTER)
        steps = tab.evaluate(STEP, 150)
        version = browser.version
        browser.close()
    return {
        "browser": f"Chromium {version}, headless",
        "open_ms": {
            "interactive": spread([time["interactive"] for time in times]),
            "first_sample_and_pictures": spread([time["shown"] for time in times]),
        },
        "filter_ms": {
            "work": spread([entry["work"] for entry in filters]),
            "to_the_next_frame": spread([entry["frame"] for entry in filters]),
            "slowest": max(filters, key=lambda entry: entry["frame"])["name"],
        },
        "step_ms": spread(steps),
    }


def spread(values: list[float]) -> dict[str, float]:
    return {
        "n": len(values),
        "median": round(statistics.median(values), 1),
        "most": round(max(values), 1),
    }


if __name__ == "__main__":
    main()
