"""Evaluate a model on a dataset into a folder: completions as they come, then the metrics."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from io import FileIO
from pathlib import Path
from typing import Any

from rich.console import Console

from star_r1.errors import UserError
from star_r1.evaluate.predictions import STATUSES, Completion, read_completions
from star_r1.evaluate.predictor import Predictor
from star_r1.evaluate.scoring import score_completions
from star_r1.files import alone, write_atomic
from star_r1.metrics import Scores
from star_r1.progress import progress
from star_r1.provenance import provenance
from star_r1.tvr.prompt import PROMPTS, PromptName

BASELINE = "baseline:"
ENDPOINT = "endpoint:"
_FAILED = b'"status": "failed"'
_PLAIN: dict[str, Any] = {"markup": False, "emoji": False, "soft_wrap": True, "highlight": False}


def evaluate(
    model: str,
    data: Path,
    out: Path,
    views: tuple[str, ...] | None = None,
    limit: int | None = None,
    batch_size: int = 64,
    max_new_tokens: int = 256,
    seed: int = 0,
    *,
    prompt: PromptName = "think",
    few_shot: int = 0,
    examples: Path | None = None,
    samples_per_prompt: int = 1,
    temperature: float | None = 0.0,
    top_p: float = 1.0,
    chat_template_kwargs: Mapping[str, Any] | None = None,
    detail: str = "auto",
    concurrency: int = 8,
    retries: int = 5,
    timeout: float = 120.0,
    extra_body: Mapping[str, Any] | None = None,
    prices: tuple[float, float] | None = None,
) -> Scores:
    """Let a model answer the rows of a dataset, and score its answers.

    ``out`` receives predictions.jsonl (one ``Completion`` a line, as they come), run.json
    (settings, and where the numbers come from) and at the end metrics.json (those that are
    returned; where objects move also TRANCE's, under ``trance`` and the name of the setting; what
    became of the questions under ``answers``; tokens under ``usage``; with several completions a
    row pass@k and majority vote under ``samples``). Where the model is a run of ``star-r1 train``,
    the metrics of greedy answers to the prompt of the training enter its card too.
    An interrupted evaluation goes on where it stopped when called again with the same settings:
    every line of predictions.jsonl bears a key of model, prompt, pictures and settings. Questions
    at which the endpoint failed are asked again, more rows (a greater ``limit``) join the answered
    ones. A local model runs in float32 on the CPU, in bfloat16 on a GPU.

    Args:
        model: a model folder, a Hub name, or ``mini``; ``endpoint:NAME`` for a model behind an
            OpenAI-compatible endpoint (``endpoint.Endpoint``); ``baseline:NAME`` for one of
            ``baselines.BASELINES``.
        data: a dataset folder, as ``star-r1 generate`` writes it.
        out: made if absent.
        views: only rows with these final views; None for all.
        limit: only the first so many of those rows; None for all.
        batch_size: completions that a local model writes at once. It does not change the result
            and may differ when an interrupted run goes on.
        max_new_tokens: where a completion is cut off.
        seed: of what is drawn, and of the choice of examples.
        prompt: one of ``tvr.prompt.PROMPTS``.
        few_shot: so many rows of ``examples`` are shown with their answers first.
        examples: another dataset than ``data``.
        samples_per_prompt: completions a row; metrics are then means over them.
        temperature: 0 for greedy, None for what the endpoint does by itself.
        top_p: share of the probability that tokens are drawn from.
        chat_template_kwargs: variables of a local model's chat template.
        detail, concurrency, retries, timeout, extra_body: of an endpoint, see
            ``endpoint.Endpoint``.
        prices: US dollars for a million tokens of prompts and of completions; None if unknown.

    Returns:
        The metrics over the rows that were run: group -> metric -> ``{"value", "ci95", "n"}``.

    Raises:
        UserError: an argument is out of range, the model or the data does not load, there are no
            rows, ``out`` holds a run with other settings or one that is going on, or the endpoint
            cannot be used.
    """
    _check(
        {
            "limit": limit,
            "batch-size": batch_size,
            "max-new-tokens": max_new_tokens,
            "samples-per-prompt": samples_per_prompt,
            "concurrency": concurrency,
        },
        least=1,
    )
    _check({"few-shot": few_shot, "retries": retries}, least=0)
    if prompt not in PROMPTS:
        raise UserError(f"--prompt {prompt}: choose {', '.join(PROMPTS)}")
    if samples_per_prompt > 1 and temperature == 0 and not model.startswith(BASELINE):
        raise UserError(
            f"--samples-per-prompt {samples_per_prompt}: greedy completions are all the same; "
            "give a --temperature above 0"
        )
    if bool(few_shot) != (examples is not None):
        raise UserError("--few-shot K and --examples DATA: give both, or neither")

    from star_r1.data.dataset import SAMPLE_COLUMNS, load
    from star_r1.evaluate.questions import ask, fingerprint, make_keys

    rows = load(data, views)
    if limit is not None:
        rows = rows.select(range(min(limit, len(rows))))
    if len(rows) == 0:
        raise UserError(f"{data}: no rows in it; generate it again")
    shown: Sequence[Mapping[str, Any]] = ()
    asked: dict[str, Any] = {"prompt": prompt}
    if examples is not None:
        from star_r1.evaluate.examples import choose_examples

        shown = choose_examples(examples, few_shot, seed, data)
        asked["few_shot"] = [row["id"] for row in shown]
    predictor = _open_predictor(
        model,
        chat_template_kwargs or {},
        {
            "batch_size": batch_size,
            "max_new_tokens": max_new_tokens,
            "temperature": temperature,
            "top_p": top_p,
            "seed": seed,
        },
        {
            **{"detail": detail, "concurrency": concurrency, "retries": retries},
            **{"timeout": timeout, "extra_body": extra_body},
        },
    )
    asked |= predictor.identity
    if samples_per_prompt > 1 or temperature != 0:
        asked["seed"] = seed
    prints = fingerprint(rows, prompt, shown)
    keys = make_keys(prints, asked)
    settings = {
        "model": model,
        "data": str(data),
        "views": list(views) if views else None,
        "limit": limit,
        "n": len(rows),
        "batch_size": batch_size,
    }
    identity = {
        **asked,
        "samples_per_prompt": samples_per_prompt,
        "seed": seed,
        "rows": _digest_rows(prints),
    }
    with alone(out, "--out", "evaluating"):
        found = open_run(out, settings, identity, keys)
        done = {id: [one for one in of if one.status != "failed"] for id, of in found.items()}
        answered = {id: [one.number for one in of] for id, of in done.items()}
        failed = {id for id, of in found.items() if len(of) > len(done[id])}
        questions = ask(rows, keys, prompt, shown, samples_per_prompt, answered, failed)
        predictions = out / "predictions.jsonl"
        try:
            with (
                predictions.open("ab", buffering=0) as file,
                progress(
                    f"Evaluating {model}",
                    len(rows) * samples_per_prompt,
                    "rows" if samples_per_prompt == 1 else "completions",
                    sum(map(len, answered.values())),
                ) as advance,
            ):
                for completion in predictor.predict(questions):
                    _append(file, completion)
                    done.setdefault(completion.id, []).append(completion)
                    advance()
        finally:
            _settle(predictions)
        for completions in done.values():
            completions.sort(key=lambda completion: completion.number)
        record = score_completions(rows.select_columns(list(SAMPLE_COLUMNS)), done)
        record["usage"] = _usage(done, prices)
        write_atomic(out / "metrics.json", json.dumps(record, indent=1) + "\n")
    # A card speaks of greedy answers to the prompt of the training.
    as_trained = prompt == "think" and not few_shot and temperature == 0
    if as_trained and not model.startswith((BASELINE, ENDPOINT)):
        from star_r1.model.source import resolve
        from star_r1.train.card import update_card
        from star_r1.train.record import read_record

        folder = Path(resolve(model))
        trained = read_record(folder).get("settings", {}).get("chat_template_kwargs") or {}
        if trained == (chat_template_kwargs or {}):
            update_card(folder, out)
        else:
            Console(stderr=True).print(
                f"{folder} was trained with --chat_template_kwargs '{json.dumps(trained)}'; these "
                "are answers to other prompts, and stay out of its card",
                **_PLAIN,
            )
    _tell(out, len(rows), done, record["usage"])
    return {group: of for group, of in record.items() if "tacc" in of}


def _check(numbers: Mapping[str, int | None], least: int) -> None:
    for name, number in numbers.items():
        if number is not None and number < least:
            raise UserError(f"--{name} {number}: give a number of {least} or more")


def _open_predictor(
    model: str,
    template: Mapping[str, Any],
    settings: dict[str, Any],
    network: Mapping[str, Any],
) -> Predictor:
    if template and model.startswith((BASELINE, ENDPOINT)):
        raise UserError(
            "--chat-template-kwargs: the template of a local model has them; to vLLM, send "
            """--extra-body '{"chat_template_kwargs": {...}}'"""
        )
    if network["extra_body"] and not model.startswith(ENDPOINT):
        raise UserError("--extra-body: only an endpoint takes it; see --model endpoint:NAME")
    if model.startswith(BASELINE):
        from star_r1.evaluate.baselines import BaselinePredictor

        return BaselinePredictor(model.removeprefix(BASELINE), settings["seed"])
    if model.startswith(ENDPOINT):
        from star_r1.evaluate.endpoint import Endpoint

        del settings["batch_size"]
        return Endpoint(model.removeprefix(ENDPOINT), **settings, **network)
    if settings["temperature"] is None:
        raise UserError("--temperature default: an endpoint has one, a local model has not")
    from star_r1.evaluate.local import LocalModel

    return LocalModel.load(model, **settings, chat_template_kwargs=template)


def open_run(
    out: Path, settings: Mapping[str, Any], identity: Mapping[str, Any], keys: Mapping[str, str]
) -> dict[str, list[Completion]]:
    """Begin a run in ``out``, or go on with the one there.

    What a killed process has left is taken out of predictions.jsonl: half a last line, and lines
    with the status ``failed`` whose question was asked again since.

    Args:
        out: exists.
        settings: for run.json, also where those of the run there were others: its data may have
            been moved.
        identity: for run.json; must equal that of the run there, but for ``rows``, whose answered
            part must be among the present ones.
        keys: id -> the key that its completions must bear.

    Returns:
        By id, what is in predictions.jsonl already, answered or failed.

    Raises:
        UserError: the folder is damaged, or holds a run with other settings.
    """
    record, predictions = out / "run.json", out / "predictions.jsonl"
    about = json.dumps({**settings, "identity": identity, **provenance()}, indent=1) + "\n"
    if not record.exists():
        if predictions.exists():
            raise UserError(f"{predictions} is there without run.json; choose another --out")
        write_atomic(record, about)
        return {}
    try:
        there = json.loads(record.read_bytes())
        before = there["identity"]
        changed = {
            name: f"{name} {before.get(name)} (now {identity.get(name)})"
            for name in {**identity, **before}
            if before.get(name) != identity.get(name)
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"{record} is damaged; choose another --out") from None
    grown = changed.pop("rows", None)
    if changed:
        raise UserError(
            f"{out} holds a run with other settings: {', '.join(changed.values())}; choose another "
            "--out"
        )
    done = {}
    if predictions.exists():
        _settle(predictions)
        done = read_completions(predictions)
    foreign = [id for id, of in done.items() for one in of if one.key != keys.get(id)]
    if foreign:
        raise UserError(
            f"{predictions}: the answer to {foreign[0]!r} was given to another prompt or picture, "
            "or by another model; choose another --out"
            if foreign[0] in keys
            else f"{out} holds answers to rows that are left out now, such as {foreign[0]!r}; ask "
            "for them too (--limit, --views, --data), or choose another --out"
        )
    if grown:
        (out / "metrics.json").unlink(missing_ok=True)
        write_atomic(record, about)
    elif settings != {name: there.get(name) for name in settings}:
        write_atomic(record, json.dumps({**there, **settings}, indent=1) + "\n")
    return done


def _settle(predictions: Path) -> None:
    """Leave one whole line for each completion: the last one where earlier ones failed."""
    content = predictions.read_bytes()
    # A process that was killed may have left half a line, which only the last one can be.
    lines = content[: content.rfind(b"\n") + 1].splitlines(keepends=True)
    if any(_FAILED in line for line in lines):
        last = {_name(line): place for place, line in enumerate(lines)}
        lines = [
            line
            for place, line in enumerate(lines)
            if _FAILED not in line or last[_name(line)] == place
        ]
    if (settled := b"".join(lines)) != content:
        write_atomic(predictions, settled)


def _name(line: bytes) -> object:
    """Of which completion a line is; of none if it is damaged, which the reader says."""
    try:
        row = json.loads(line)
        return row["id"], row.get("number", 0)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return line


def _append(file: FileIO, completion: Completion) -> None:
    """Write a line; unbuffered, so that closing the file does not try again what cannot be."""
    rest = completion.to_json().encode() + b"\n"
    try:
        while rest:
            rest = rest[file.write(rest) :]
    except OSError as error:
        raise UserError(
            f"cannot write {file.name}: {error.strerror}; make room and run it again"
        ) from None


def _digest_rows(prints: Mapping[str, str]) -> str:
    from star_r1.evaluate.questions import digest

    return digest(f"{id} {of}\n".encode() for id, of in prints.items())


def _usage(
    done: Mapping[str, Sequence[Completion]], prices: tuple[float, float] | None
) -> dict[str, Any]:
    """Tokens, and what they cost."""
    counts = {
        name: sum(getattr(one, name) for of in done.values() for one in of)
        for name in ("prompt_tokens", "completion_tokens")
    }
    if prices is None:
        return counts
    dollars = sum(n * price for n, price in zip(counts.values(), prices, strict=True)) / 1e6
    return {**counts, "usd": round(dollars, 6)}


def _tell(
    out: Path, rows: int, done: Mapping[str, Sequence[Completion]], usage: Mapping[str, Any]
) -> None:
    """What there is now, and what to run next."""
    counts = Counter(one.status for of in done.values() for one in of)
    others = ", ".join(
        f"{counts[status]} {status.replace('_', ' ')}" for status in STATUSES[1:] if counts[status]
    )
    words = [f"metrics of the answers to {rows} rows: {out / 'metrics.json'}"]
    if others:
        words.append(f"of {counts.total()} answers {others}, all counted as they are")
    if counts["failed"]:
        failed = (one.error for of in done.values() for one in of if one.status == "failed")
        ((why, n),) = Counter(failed).most_common(1)
        words.append(f"the same command asks those that failed again; {n} did with: {why}")
    if "usd" in usage:
        words.append(
            f"{usage['prompt_tokens']} tokens of prompts, {usage['completion_tokens']} of "
            f"completions: {usage['usd']:.2f} US dollars"
        )
    words.append(f"next: star-r1 report {out} --out {out / 'report.html'}")
    console = Console(stderr=True)
    for line in words:
        console.print(line, **_PLAIN)
