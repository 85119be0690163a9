"""Evaluate a model on a dataset into a folder: completions as they come, then the metrics."""

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from star_r1.errors import UserError
from star_r1.evaluate.journal import Totals, Written, add_up, append, open_journal
from star_r1.evaluate.predictions import STATUSES
from star_r1.evaluate.predictor import Predictor
from star_r1.evaluate.scoring import score_completions
from star_r1.files import alone, write_atomic
from star_r1.metrics import Scores
from star_r1.progress import progress
from star_r1.tvr.prompt import PROMPTS, PromptName

BASELINE = "baseline:"
ENDPOINT = "endpoint:"
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

    from star_r1.evaluate.questions import Rows, ask, fingerprint, make_keys

    rows = Rows(data, views, limit)
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
    del prints
    from star_r1.data.manifest import holds_dataset

    if holds_dataset(out):
        raise UserError(f"--out {out}: a dataset lies there; name a folder for the run")
    with alone(out, "--out", "evaluating"):
        journal = open_journal(out, settings, identity, keys)
        predictor.left_out |= journal.left_out
        questions = ask(
            rows,
            keys,
            prompt,
            shown,
            samples_per_prompt,
            journal.answered,
            journal.failed,
        )
        total = len(rows) * samples_per_prompt
        answered = sum(map(len, journal.answered.values()))
        try:
            with (
                journal.predictions.open("ab", buffering=0) as file,
                progress(
                    f"Evaluating {model}",
                    total,
                    "rows" if samples_per_prompt == 1 else "completions",
                    answered,
                ) as advance,
            ):
                for completion in predictor.predict(questions if answered < total else ()):
                    if predictor.left_out > journal.left_out:
                        journal.note(predictor.left_out)
                    append(file, completion)
                    advance()
        finally:
            journal.settle()
        with journal.predictions.open("rb", buffering=0) as file:
            said = Written(journal.predictions, file, keys)
            record = score_completions(rows.without_pictures(), said)
        totals = add_up(journal.predictions)
        record["usage"] = _usage(totals, prices)
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
    _tell(out, len(rows), totals, record["usage"], journal.left_out)
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


def _digest_rows(prints: Mapping[str, str]) -> str:
    from star_r1.evaluate.questions import digest

    return digest(f"{id} {of}\n".encode() for id, of in prints.items())


def _usage(totals: Totals, prices: tuple[float, float] | None) -> dict[str, Any]:
    """Tokens, and what they cost."""
    counts = {
        "prompt_tokens": totals.prompt_tokens,
        "completion_tokens": totals.completion_tokens,
    }
    if prices is None:
        return counts
    dollars = sum(n * price for n, price in zip(counts.values(), prices, strict=True)) / 1e6
    return {**counts, "usd": round(dollars, 6)}


def _tell(
    out: Path, rows: int, totals: Totals, usage: Mapping[str, Any], left_out: Collection[str]
) -> None:
    """What there is now, and what to run next."""
    counts = totals.statuses
    others = ", ".join(
        f"{counts[status]} {status.replace('_', ' ')}" for status in STATUSES[1:] if counts[status]
    )
    words = [f"metrics of the answers to {rows} rows: {out / 'metrics.json'}"]
    if others:
        words.append(f"of {counts.total()} answers {others}, all counted as they are")
    if counts["failed"]:
        ((why, n),) = totals.errors.most_common(1)
        words.append(f"the same command asks those that failed again; {n} did with: {why}")
    if left_out:
        words.append(f"not asked for, since the endpoint refuses it: {', '.join(sorted(left_out))}")
    if "usd" in usage:
        words.append(
            f"{usage['prompt_tokens']} tokens of prompts, {usage['completion_tokens']} of "
            f"completions: {usage['usd']:.2f} US dollars"
        )
    words.append(f"next: star-r1 report {out} --out {out / 'report.html'}")
    console = Console(stderr=True)
    for line in words:
        console.print(line, **_PLAIN)
