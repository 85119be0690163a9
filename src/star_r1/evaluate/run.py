"""Evaluate a model on a dataset into a folder: completions as they come, then the metrics."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rich.console import Console

from star_r1.errors import UserError
from star_r1.evaluate.predictions import read_predictions
from star_r1.evaluate.scoring import read_answers, score_file
from star_r1.files import write_atomic
from star_r1.metrics import Scores, score
from star_r1.progress import progress
from star_r1.provenance import provenance
from star_r1.trance_metrics import SETTINGS, score_trance

__all__ = ["evaluate", "score_file"]


def evaluate(
    model: str,
    data: Path,
    out: Path,
    views: tuple[str, ...] | None = None,
    limit: int | None = None,
    batch_size: int = 64,
    max_new_tokens: int = 256,
    seed: int = 0,
) -> Scores:
    """Let a model answer the rows of a dataset greedily, and score its answers.

    ``out`` receives predictions.jsonl (one ``{"id", "completion"}`` a line, as they come),
    run.json (settings, and where the numbers come from) and at the end metrics.json (those that
    are returned; where objects move also TRANCE's, under ``trance`` and the name of the setting).
    Where the model is a run of ``star-r1 train``, the metrics enter its card too.
    An interrupted evaluation goes on where it stopped when called again with the same settings.
    float32 on the CPU, bfloat16 on a GPU.

    Args:
        model: a model folder, a Hub name, or ``mini``.
        data: a dataset folder, as ``star-r1 generate`` writes it.
        out: made if absent.
        views: only rows with these final views; None for all.
        limit: only the first so many of those rows; None for all.
        batch_size: rows completed at once. It does not change the result and may differ when an
            interrupted run goes on.
        max_new_tokens: where a completion is cut off.
        seed: of the bootstrap intervals. Decoding has no randomness.

    Returns:
        The metrics over the rows that were run: group -> metric -> ``{"value", "ci95", "n"}``.

    Raises:
        UserError: an argument is out of range, the model or the data does not load, there are no
            rows, or ``out`` holds a run with other settings.
    """
    sizes = {"limit": limit, "batch-size": batch_size, "max-new-tokens": max_new_tokens}
    for name, number in sizes.items():
        if number is not None and number < 1:
            raise UserError(f"--{name} {number}: give a number of 1 or more")

    import torch

    from star_r1.data.dataset import SAMPLE_COLUMNS, load
    from star_r1.evaluate.predictors import complete
    from star_r1.model.loading import load_model, load_processor
    from star_r1.train.card import update_card

    rows = load(data, views)
    if limit is not None:
        rows = rows.select(range(min(limit, len(rows))))
    if len(rows) == 0:
        raise UserError(f"{data}: no rows in it; generate it again")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    network, processor = load_model(model, dtype).to(device), load_processor(model)
    identity = {
        "weights": _digest(_bytes_of_weights(network)),
        "rows": _digest(_bytes_of_rows(rows)),
        "dtype": str(dtype).removeprefix("torch."),
        "max_new_tokens": max_new_tokens,
        "seed": seed,
    }
    settings = {
        "model": model,
        "data": str(data),
        "views": list(views) if views else None,
        "limit": limit,
        "n": len(rows),
        "batch_size": batch_size,
    }
    done = _open_run(out, settings, identity, set(rows["id"]))

    todo = rows.select([i for i, id in enumerate(rows["id"]) if id not in done])
    todo = todo.select_columns(["id", "prompt", "images"])  # masks and depth are not decoded
    with (
        (out / "predictions.jsonl").open("a", encoding="utf-8") as file,
        progress(f"Evaluating {model}", len(rows), "rows", len(done)) as advance,
    ):
        for id, text in complete(
            network, processor, todo, batch_size=batch_size, max_new_tokens=max_new_tokens
        ):
            file.write(json.dumps({"id": id, "completion": text}) + "\n")
            file.flush()
            done[id] = text
            advance()
    pairs = read_answers(rows.select_columns(list(SAMPLE_COLUMNS)), done)
    scores = score(pairs, seed)
    record: dict[str, Any] = dict(scores)
    if "position" in scores["overall"]:
        record["trance"] = {setting: score_trance(pairs, setting, seed) for setting in SETTINGS}
    write_atomic(out / "metrics.json", json.dumps(record, indent=1) + "\n")
    update_card(Path(model), out)
    Console(stderr=True).print(
        f"metrics of {len(rows)} answers: {out / 'metrics.json'}\n"
        f"next: star-r1 report {out} --out {out / 'report.html'}",
        soft_wrap=True,
        highlight=False,
    )
    return scores


def _open_run(
    out: Path, settings: dict[str, Any], identity: dict[str, Any], known: set[str]
) -> dict[str, str]:
    """Begin a run in ``out``, or check that it goes on the one there; what it has completed."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out {out}: {error.strerror}; choose another folder") from None
    record, predictions = out / "run.json", out / "predictions.jsonl"
    if not record.exists():
        if predictions.exists():
            raise UserError(f"{predictions} is there without run.json; choose another --out")
        about = {**settings, "identity": identity, **provenance()}
        write_atomic(record, json.dumps(about, indent=1) + "\n")
        return {}
    try:
        before = json.loads(record.read_bytes())["identity"]
        changed = [name for name in identity if before.get(name) != identity[name]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"{record} is damaged; choose another --out") from None
    if changed:
        there = ", ".join(f"{name} {before.get(name)} (now {identity[name]})" for name in changed)
        raise UserError(f"{out} holds a run with other settings: {there}; choose another --out")
    if not predictions.exists():
        return {}
    with predictions.open("rb+") as file:
        # A process that was killed may have left half a line, which only the last one can be.
        file.truncate(file.read().rfind(b"\n") + 1)
    return read_predictions(predictions, known)


def _digest(parts: Iterable[bytes]) -> str:
    """A short fingerprint: it keeps a run from mixing the answers of two models or datasets."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()[:16]


def _bytes_of_weights(network: Any) -> Iterable[bytes]:
    import torch

    for name, weight in network.state_dict().items():
        yield name.encode()
        yield weight.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes()


def _bytes_of_rows(rows: Any) -> Iterable[bytes]:
    asked = rows.select_columns(["id", "prompt", "images"]).with_format("arrow")
    for table in asked.iter(batch_size=64):
        for row in table.to_pylist():
            yield json.dumps([row["id"], row["prompt"]]).encode()
            yield from (picture["bytes"] for picture in row["images"])
