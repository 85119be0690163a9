"""Endpoints through the real client, against a server that misbehaves on purpose."""

import asyncio
import base64
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageChops
from tests.evaluate.asking import KEY, QUICK, ROWS, Serve, always, hash_of, predict
from tests.evaluate.misbehaving_server import (
    ENDS,
    FAULTS,
    STATUSES,
    Server,
    act,
    end,
    hash_question,
    right_answer,
    usage_of,
)

from star_r1.data.dataset import load
from star_r1.data.pictures import read_pair
from star_r1.errors import UserError
from star_r1.evaluate.endpoint import Endpoint, to_openai
from star_r1.evaluate.flight import GIVE_UP_AFTER
from star_r1.evaluate.predictions import Completion, read_completions
from star_r1.evaluate.predictor import Question
from star_r1.evaluate.questions import ask
from star_r1.evaluate.run import evaluate

THOUGHT = "<think>2</think>a"

# A whole run


def test_all_are_answered_or_failed_none_twice_none_lost(
    serve: Serve,
    data_folder: Path,
    questions: list[Question],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    hashes = {(q.id, n): hash_of(q, 5 + n) for q in questions for n in range(2)}
    lots = {question: place for place, question in enumerate(hashes.values())}
    ends = {question: end(lot) for question, lot in lots.items()}
    server, out = serve(lambda question, attempt: act(lots[question], attempt)), tmp_path / "run"
    two = {"samples_per_prompt": 2, "temperature": 1.0, "seed": 5, **QUICK, "timeout": 3.0}

    def run() -> dict[str, list[Completion]]:
        evaluate("endpoint:m", data_folder, out, **two)
        return read_completions(out / "predictions.jsonl")

    found = run()
    assert set(server.did()) == {*FAULTS, *ENDS}
    assert max(server.paid().values()) == 1
    assert {(id, one.number) for id, of in found.items() for one in of} == set(hashes)
    statuses: Counter[str] = Counter()
    tokens = [0, 0]
    for (id, number), question in hashes.items():
        one, ended = found[id][number], ends[question]
        assert one.status == STATUSES[ended], ended
        statuses[one.status] += 1
        if one.status == "answered":
            assert one.text == right_answer(question)
        if one.status == "failed":
            assert (
                one.error
                == {
                    "always_500": "status 500: on purpose: always_500 (3 attempts)",
                    "too_large": "status 413: the picture is too large",
                    "strange_parts": "the answer is unreadable: its content is a part of type "
                    "'hologram'",
                }[ended]
            )
        uncounted = ("no_usage", "absurd_usage", "refused_400", "flagged_403", "inspection_400")
        counted = one.status != "failed" and ended not in uncounted
        assert (one.prompt_tokens, one.completion_tokens) == (
            usage_of(question) if counted else (0, 0)
        )
        tokens = [tokens[0] + one.prompt_tokens, tokens[1] + one.completion_tokens]
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["usage"] == dict(
        zip(("prompt_tokens", "completion_tokens"), tokens, strict=True)
    )
    assert {name: n for name, n in metrics["answers"].items() if name in statuses} == statuses

    # What failed is asked again, and only that; a better day answers it.
    failed = {q for q in hashes.values() if STATUSES[ends[q]] == "failed"}
    assert {ends[q] for q in failed} == {"always_500", "too_large", "strange_parts"}
    before = len(server.asked)
    assert run() == found
    assert {asked.question for asked in server.asked[before:]} == failed
    again = Counter(asked.question for asked in server.asked[before:])
    assert {again[q] for q in failed if ends[q] != "always_500"} == {1}  # it costs, and is no use
    server.plan, before = always("right"), len(server.asked)
    mended = run()
    assert Counter(asked.question for asked in server.asked[before:]) == Counter(failed)
    for (id, number), question in hashes.items():
        expected = right_answer(question) if question in failed else found[id][number].text
        assert mended[id][number].text == expected
    before = len(server.asked)
    assert run() == mended
    assert len(server.asked) == before
    assert max(server.paid().values()) == 1

    # The key is nowhere.
    said = capfd.readouterr()
    assert f"endpoint {server.url}: status 503: on purpose: 503; trying again" in said.err
    assert " did with: status 500: on purpose: always_500 (3 attempts)" in said.err
    assert KEY not in said.out + said.err
    for path in out.iterdir():
        assert KEY not in path.read_text()


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"temperature": 0.5}, "temperature 0.0 (now 0.5)"),
        ({"max_new_tokens": 7}, "max_new_tokens 256 (now 7)"),
        ({"detail": "low"}, "detail auto (now low)"),
        ({"top_p": 0.5}, "top_p None (now 0.5)"),
        ({"model": "endpoint:n"}, "endpoint_model m (now n)"),
        ({"prompt": "direct"}, "prompt think (now direct)"),
        ({"url": "http://127.0.0.1:9/v1"}, "endpoint http://127.0.0.1:"),
    ],
)
def test_another_setting_wants_another_folder(
    serve: Serve,
    data_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    changed: dict[str, Any],
    named: str,
) -> None:
    server = serve(always("right"))
    evaluate("endpoint:m", data_folder, tmp_path / "run", limit=1)
    if url := changed.pop("url", None):
        monkeypatch.setenv("OPENAI_BASE_URL", url)
    again = {"model": "endpoint:m", "limit": 2, **changed}
    with pytest.raises(UserError, match="choose another --out") as error:
        evaluate(data=data_folder, out=tmp_path / "run", **again)
    assert named in str(error.value)
    assert len(server.asked) == 1


def test_words_of_an_endpoint_are_no_markup(
    serve: Serve, data_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server = serve(always("right"))
    server.refuse = lambda *_: (400, {"error": {"message": "[/red] no :smile:\n\x1b[2J\ud800"}}, {})
    evaluate("endpoint:[/m]", data_folder, tmp_path / "run", limit=2)
    assert "2 did with: status 400: [/red] no :smile: \ufffd[2J\ufffd" in capsys.readouterr().err


def test_other_numbers_of_attempts_are_no_other_setting(
    serve: Serve, data_folder: Path, tmp_path: Path
) -> None:
    server = serve(always("right"))
    evaluate("endpoint:m", data_folder, tmp_path / "run", limit=1)
    patient = {"retries": 1, "timeout": 9.0, "concurrency": 1, "limit": 2}
    evaluate("endpoint:m", data_folder, tmp_path / "run", **patient)
    assert len(server.asked) == 2


# Attempts


def test_each_fault_is_named(serve: Serve, questions: list[Question]) -> None:
    said = {
        "429": "status 429: on purpose: 429",
        "429_wait": "status 429: slowly",
        "500": "status 500: on purpose: 500",
        "503": "status 503: on purpose: 503",
        "hang": "no answer within 2 s",
        "drip": "no answer within 2 s",
        "garbage": "the answer is unreadable: no JSON: \ufffd\ufffd",
        "html": "the answer is unreadable: no JSON: <html>Welcome</html>",
        "half_json": 'the answer is unreadable: no JSON: {"id": "x", ',
        "no_choices": "the answer is unreadable: no choice in it: ",
        "error_as_200": "status 502: upstream is away",
        **dict.fromkeys(("429_date", "429_ms", "429_info", "429_as_200"), "status 429: slowly"),
        **dict.fromkeys(("429_reset", "429_words"), "status 429: slowly"),
        "end_error": "the answer ended with 'error' (finish_reason): 20 characters that may be",
        "end_network_error": "the answer ended with 'network_error' (finish_reason): 20 chara",
        "end_abort": "the answer ended with 'abort' (finish_reason): 20 characters",
        "end_none": "the answer does not say how it ended (finish_reason): 20 characters",
        "end_none_null": "the answer does not say how it ended (finish_reason): 0 characters",
        "end_unheard": "the answer ended with 'unheard of' (finish_reason): 20 characters",
        "error_beside": "the answer ended with 'stop' (finish_reason): upstream broke off",
        "cut": "the connection broke: peer closed connection without sending complete",
        "reset": "the connection broke: ",
    }
    assert set(said) == set(FAULTS)
    for faults in (FAULTS[:13], FAULTS[13:]):  # less than makes a run give up
        hashes = {hash_of(q): fault for q, fault in zip(questions, faults, strict=False)}
        server = serve(lambda question, attempt, hashes=hashes: hashes[question])
        done = predict(questions[: len(faults)], retries=0, timeout=2)
        for question, fault in zip(questions, faults, strict=False):
            assert done[question.id].status == "failed"
            assert done[question.id].error.startswith(said[fault]), fault
        assert set(server.counts.values()) == {1}


def test_pauses_grow_or_are_as_long_as_the_endpoint_asks(
    serve: Serve, questions: list[Question]
) -> None:
    polite = hash_of(questions[0])
    server = serve(
        lambda question, attempt: (
            "right" if attempt == 2 else "429_wait" if question == polite else "429"
        )
    )
    predict(questions[:2])
    times: dict[bool, list[float]] = {True: [], False: []}
    for asked in server.asked:
        times[asked.question == polite].append(asked.at)
    first, second, third = times[False]
    assert second - first > 0.37
    assert third - second > 0.74
    assert 0.1 < times[True][2] - times[True][0] < third - first


@pytest.mark.parametrize(
    ("status", "wait", "attempts"),
    [(429, "0.01", 3), (429, "3600", 1), (503, "1e400", 1), (400, "0.01", 1), (413, "", 1)],
)
def test_who_wants_hours_or_cannot_is_not_asked_again(
    serve: Serve, questions: list[Question], status: int, wait: str, attempts: int
) -> None:
    server, asked = serve(always("right")), []

    def refuse(body: Any, headers: Any) -> Any:
        asked.append(body)
        return status, {"error": {"message": "no"}}, {"Retry-After": wait}

    server.refuse = refuse
    (done,) = predict(questions[:1]).values()
    assert done.status == "failed"
    wish = {"3600": "60 minutes", "1e400": "years"}.get(wait, "")
    too_long = f"; it wants to be asked again in {wish}, which is too long to wait for"
    assert done.error == f"status {status}: no" + too_long * bool(wish) + " (3 attempts)" * (
        attempts == 3
    )
    assert len(asked) == attempts


# What ends a run


@pytest.mark.parametrize(
    ("status", "error", "says"),
    [
        (401, {"message": f"Incorrect key: {KEY}"}, "refuses the key; set OPENAI_API_KEY"),
        (402, {"message": "no balance"}, "wants to be paid first (no balance)"),
        (403, {"message": "not here"}, "forbids this; look at what the key may do (not here)"),
        (404, {"message": "no model m"}, "does not know model 'm', or OPENAI_BASE_URL is not"),
        (429, {"message": "quota", "code": "insufficient_quota"}, "wants to be paid first (quota)"),
    ],
)
def test_what_no_attempt_mends_is_one_line_at_once(
    serve: Serve,
    questions: list[Question],
    capsys: pytest.CaptureFixture[str],
    status: int,
    error: dict[str, str],
    says: str,
) -> None:
    server = serve(always("right"))
    server.refuse = lambda body, headers: (status, {"error": error}, {})
    with pytest.raises(UserError) as raised:
        predict(questions, concurrency=2)
    message = str(raised.value)
    assert not capsys.readouterr().err
    assert message.startswith(f"endpoint {server.url} {says}")
    assert KEY not in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("status", "error", "fate"),
    [
        (403, {"message": "flagged", "metadata": {"reasons": ["violence"]}}, "refused"),
        (400, {"code": "data_inspection_failed", "message": "Input data may ..."}, "refused"),
        (400, {"code": "content_policy_violation", "message": "rejected"}, "refused"),
        (451, {"message": "blocked by content moderation"}, "refused"),
        (422, {"message": "cannot read this picture"}, "failed"),
        (413, {"message": "too large"}, "failed"),
        (403, {"message": "Access denied"}, "failed"),  # a firewall's, after others passed
        (403, {}, "failed"),
    ],
)
def test_the_fate_of_a_row_is_no_other_rows(
    serve: Serve,
    data_folder: Path,
    questions: list[Question],
    tmp_path: Path,
    status: int,
    error: dict[str, Any],
    fate: str,
) -> None:
    """Also where these rows come first, and where a later run asks nothing but them."""
    server, out, bad = serve(always("right")), tmp_path / "run", questions[2:8:3]
    hashes = {hash_of(question) for question in bad}
    server.refuse = lambda body, headers: (
        (status, {"error": error}, {}) if hash_question(body["messages"]) in hashes else None
    )
    for _ in range(2):
        evaluate("endpoint:m", data_folder, out, concurrency=1, retries=3)
        found = read_completions(out / "predictions.jsonl")
        assert {id for id, (one,) in found.items() if one.status == fate} == {q.id for q in bad}
        assert Counter(one.status for (one,) in found.values())["answered"] == ROWS - len(bad)
    assert set(server.paid().values()) == {1}


@pytest.mark.parametrize(
    ("message", "asked"), [("the API key lacks the scope", 1), ("Forbidden", 3), ("", 3)]
)
def test_a_key_that_is_forbidden_everything_ends_the_run(
    serve: Serve, data_folder: Path, tmp_path: Path, message: str, asked: int
) -> None:
    server, seen = serve(always("right")), []

    def forbid(body: Any, headers: Any) -> Any:
        seen.append(body)
        return 403, {"error": {"message": message}}, {}

    server.refuse = forbid
    with pytest.raises(UserError, match="forbids this; look at what the key may do"):
        evaluate("endpoint:m", data_folder, tmp_path / "run", concurrency=1)
    assert len(seen) == asked
    server.refuse = lambda body, headers: None
    evaluate("endpoint:m", data_folder, tmp_path / "run", concurrency=1)
    assert set(server.paid().values()) == {1}


def test_an_endpoint_that_is_away_is_no_filter(serve: Serve, questions: list[Question]) -> None:
    server = serve(always("right"))
    words = {"error": {"message": "the content moderation service is away"}}
    server.refuse = lambda body, headers: (503, words, {})
    (done,) = predict(questions[:1], retries=0).values()
    assert done.status == "failed"


@pytest.mark.parametrize("case", ["refused", "TLS", "silent", "path"])
def test_an_address_where_nothing_answers(
    serve: Serve,
    questions: list[Question],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    case: str,
) -> None:
    server = serve(always("right"))
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        url = {
            "refused": f"http://127.0.0.1:{port}/v1",
            "TLS": server.url.replace("http", "https"),
            "silent": f"http://127.0.0.1:{port}/v1",
            "path": server.url + "/v2",
        }[case]
        waiting = []
        if case == "silent":  # a full queue of connections: the next one hears nothing
            listener.listen(0)
            for _ in range(3):
                waiting.append(socket.socket())
                waiting[-1].setblocking(False)
                waiting[-1].connect_ex(("127.0.0.1", port))
        monkeypatch.setenv("OPENAI_BASE_URL", url)
        with pytest.raises(UserError) as raised:
            predict(questions, timeout=2, retries=100)
        tried = capsys.readouterr().err.count("cannot be reached")
        assert tried == (0 if case == "path" else 1)
        for one in waiting:
            one.close()
    says = {
        "refused": "it cannot be reached ([Errno 111] Connect call failed",
        "TLS": "it cannot be reached ([SSL",
        "silent": "it cannot be reached (no connection within 1 s); start it, or set",
        "path": "does not know model 'm', or OPENAI_BASE_URL is not its address",
    }[case]
    assert says in str(raised.value)
    assert url in str(raised.value)
    assert not server.asked


@pytest.mark.parametrize(
    ("url", "key", "says"),
    [
        ("", "", "no OPENAI_API_KEY in the environment; set it"),
        ("localhost:8000", KEY, "OPENAI_BASE_URL 'localhost:8000': give an address such as"),
        ("ftp://host/v1", KEY, "OPENAI_BASE_URL 'ftp://host/v1': give an address"),
        ("http://", KEY, "OPENAI_BASE_URL 'http://': give an address"),
        ("http://host:port/v1", KEY, "OPENAI_BASE_URL 'http://host:port/v1': give an address"),
        ("http://[host/v1", KEY, "OPENAI_BASE_URL 'http://[host/v1': give an address"),
        ("http://host/v1", KEY + "\u00e9", "OPENAI_API_KEY holds a character that no key has"),
        ("http://host/v1", KEY[:5] + "\r\n" + KEY[5:], "OPENAI_API_KEY holds a character"),
    ],
)
def test_an_environment_that_cannot_be_used(
    monkeypatch: pytest.MonkeyPatch, url: str, key: str, says: str
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", url)
    monkeypatch.setenv("OPENAI_API_KEY", key)
    with pytest.raises(UserError) as raised:
        Endpoint("m")
    assert str(raised.value).startswith(says)
    assert KEY not in str(raised.value)


def test_a_model_without_a_name(serve: Serve, data_folder: Path, tmp_path: Path) -> None:
    server = serve(always("right"))
    with pytest.raises(UserError, match="endpoint:NAME: no name"):
        evaluate("endpoint:", data_folder, tmp_path / "run")
    assert not server.asked


def test_the_environment(
    serve: Serve, questions: list[Question], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, keys = serve(always("right")), []
    server.refuse = lambda body, headers: keys.append(headers["authorization"])
    with_secrets = server.url.replace("127", "user:secret@127") + "/"
    for url, key in ((server.url, KEY), (f" {server.url}\n", ""), (with_secrets, f"{KEY}\n")):
        monkeypatch.setenv("OPENAI_BASE_URL", url)
        monkeypatch.setenv("OPENAI_API_KEY", key)
        predict(questions[:1])
        assert Endpoint("m").identity["endpoint"] == server.url
    assert keys[:2] == [f"Bearer {KEY}", "Bearer no-key-given"]
    monkeypatch.setenv("OPENAI_BASE_URL", "")
    assert Endpoint("m").identity["endpoint"] == "https://api.openai.com/v1"


def test_gives_up_where_all_fails(
    serve: Serve, data_folder: Path, questions: list[Question], tmp_path: Path
) -> None:
    hopeless = {hash_of(question) for question in questions[4:]}
    server = serve(lambda question, _: "500" if question in hopeless else "right")
    run = {"concurrency": 2, "retries": 0}
    with pytest.raises(UserError) as raised:
        evaluate("endpoint:m", data_folder, tmp_path / "run", **run)
    assert str(raised.value) == (
        f"endpoint {server.url}: {GIVE_UP_AFTER} questions in a row failed (status 500: on "
        "purpose: 500); the same command goes on when that is mended"
    )
    found = read_completions(tmp_path / "run" / "predictions.jsonl")
    counts = Counter(one.status for of in found.values() for one in of)
    assert counts["answered"] == 4
    # One was still in flight.
    assert GIVE_UP_AFTER <= counts["failed"] <= GIVE_UP_AFTER + 1
    assert len(server.asked) == counts.total()
    server.plan = always("right")
    evaluate("endpoint:m", data_folder, tmp_path / "run", **run)
    assert max(server.paid().values()) == 1
    assert len(read_completions(tmp_path / "run" / "predictions.jsonl")) == ROWS


def test_many_questions_that_always_fail_do_not_stop_the_others(
    serve: Serve, data_folder: Path, questions: list[Question], tmp_path: Path
) -> None:
    """Also where a later run asks nothing but these; and interrupted ones lose no line."""
    kept = {hash_of(question) for question in questions[::9]}
    server = serve(lambda question, _: "right" if question in kept else "429")
    assert ROWS - len(kept) > GIVE_UP_AFTER
    out, run = tmp_path / "run", {"concurrency": 1, "retries": 0}
    for _ in range(2):
        evaluate("endpoint:m", data_folder, out, **run)
        lines = (out / "predictions.jsonl").read_bytes()
        assert len(read_completions(out / "predictions.jsonl")) == lines.count(b"\n") == ROWS
    assert set(server.paid().values()) == {1}
    server.refuse = lambda *_: (401, {}, {}) if len(server.asked) % 5 == 0 else None
    with pytest.raises(UserError, match="refuses the key"):
        evaluate("endpoint:m", data_folder, out, **run)
    assert sorted((out / "predictions.jsonl").read_bytes().splitlines()) == sorted(
        lines.splitlines()
    )


def test_an_endpoint_that_goes_away_for_a_moment_is_waited_for(
    serve: Serve, questions: list[Question]
) -> None:
    server = serve(always("right"))
    predictor = Endpoint("m", retries=3, concurrency=1).predict(questions[:3])
    assert next(predictor).status == "answered"
    server.__exit__(None, None, None)
    with Server(always("right"), port=server.port):
        assert [one.status for one in predictor] == ["answered", "answered"]


# What is asked


def test_pictures_are_those_of_the_data(
    serve: Serve, data_folder: Path, questions: list[Question]
) -> None:
    server = serve(always("right"))
    predict(questions, detail="low")
    rows = {row["id"]: row for row in load(data_folder)}
    hashes = {hash_question(to_openai(q.messages, q.see(), "low")): rows[q.id] for q in questions}
    assert len(server.asked) == ROWS
    for asked in server.asked:
        row = hashes[asked.question]
        instruction, question = asked.body["messages"]
        parts = question["content"]
        shown = [part["image_url"] for part in parts if part["type"] == "image_url"]
        assert [picture["detail"] for picture in shown] == ["low", "low"]
        for picture, original in zip(shown, read_pair(row), strict=True):
            assert_same(decode(picture["url"]), original)
        system, user = row["prompt"]
        assert instruction == {"role": "system", "content": system["content"][0]["text"]}
        assert [part.get("text") for part in parts] == [part["text"] for part in user["content"]]


def test_few_shot_pictures_stand_where_their_texts_are(
    serve: Serve, data_folder: Path, tmp_path: Path
) -> None:
    from star_r1.evaluate.examples import choose_examples

    server, other = serve(always("right")), draw_data(tmp_path / "other", seed=1)
    evaluate("endpoint:m", data_folder, tmp_path / "run", few_shot=2, examples=other, limit=1)
    (asked,) = server.asked
    system, *messages = asked.body["messages"]
    assert system["role"] == "system"
    roles = ["user", "assistant", "user", "assistant", "user"]
    assert [message["role"] for message in messages] == roles
    asked_row = load(data_folder)[0]
    rows = [
        *choose_examples(other, 2, 0, data_folder),
        asked_row | {"images": read_pair(asked_row)},
    ]
    for row, message in zip(rows, messages[::2], strict=True):
        shown = [part for part in message["content"] if part["type"] == "image_url"]
        for picture, original in zip(shown, row["images"], strict=True):
            assert_same(decode(picture["image_url"]["url"]), original)


def decode(url: str) -> Image.Image:
    head, _, data = url.partition(",")
    assert head == "data:image/png;base64"
    return Image.open(BytesIO(base64.b64decode(data, validate=True)))


def assert_same(first: Image.Image, second: Image.Image) -> None:
    assert first.mode == second.mode == "RGB"
    assert first.size == second.size
    assert ImageChops.difference(first, second).getbbox() is None


def draw_data(folder: Path, seed: int) -> Path:
    """Four samples with noise for pictures."""
    from star_r1.data.shards import encode_png, make_row, to_parquet
    from star_r1.tvr.sampler import draw_sample

    noise = np.random.default_rng(seed)
    rows = [
        make_row(
            draw_sample(seed, i, lambda scene, *_: {o.index: 999 for o in scene.visible}),
            tuple(encode_png(noise.integers(0, 256, (40, 40, 3), dtype=np.uint8)) for _ in "12"),
            {},
        )
        for i in range(4)
    ]
    (folder / "data").mkdir(parents=True)
    (folder / "data" / "train-00000-of-00001.parquet").write_bytes(to_parquet(rows))
    return folder


@pytest.mark.parametrize(
    ("settings", "sent"),
    [
        ({}, {"temperature": 0.0}),
        ({"temperature": None}, {"seed": 3}),
        ({"temperature": 0.7}, {"temperature": 0.7, "seed": 3}),
        ({"temperature": 0.7, "top_p": 0.9}, {"temperature": 0.7, "top_p": 0.9, "seed": 3}),
    ],
)
def test_settings_that_are_sent(
    serve: Serve, questions: list[Question], settings: dict[str, Any], sent: dict[str, Any]
) -> None:
    server = serve(always("right"))
    predict(questions[:1], seed=3, max_new_tokens=77, **settings)
    body = dict(server.asked[0].body)
    del body["messages"]
    assert body == {"model": "m", "max_completion_tokens": 77, **sent}


def test_each_completion_of_a_row_has_its_seed(
    serve: Serve, data_folder: Path, tmp_path: Path
) -> None:
    server = serve(always("right"))
    three = {"samples_per_prompt": 3, "temperature": 1.0, "seed": 10, "limit": 4}
    evaluate("endpoint:m", data_folder, tmp_path / "run", **three)
    assert Counter(asked.seed for asked in server.asked) == {10: 4, 11: 4, 12: 4}
    found = read_completions(tmp_path / "run" / "predictions.jsonl")
    rows = load(data_folder).select(range(4))
    for question in ask(rows, dict.fromkeys(rows["id"], "")):
        assert [one.text for one in found[question.id]] == [
            right_answer(hash_of(question, 10 + n)) for n in range(3)
        ]


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, {"error": {"message": "Unrecognized request argument: max_completion_tokens"}}),
        (422, {"detail": [{"loc": ["body", "max_completion_tokens"], "msg": "Extra inputs"}]}),
    ],
)
def test_the_limit_has_its_former_name_on_older_servers(
    serve: Serve, questions: list[Question], status: int, body: Any
) -> None:
    """All questions in flight at once meet the refusal; none fails of it."""
    server = serve(always("right"))
    server.refuse = lambda asked, _: (
        (status, body, {}) if "max_completion_tokens" in asked else None
    )
    done = predict(questions, concurrency=8, max_new_tokens=99)
    assert {one.status for one in done.values()} == {"answered"}
    assert {asked.body["max_tokens"] for asked in server.asked} == {99}


def test_who_takes_neither_name_is_quoted_on_the_first(
    serve: Serve, questions: list[Question]
) -> None:
    server = serve(always("right"))

    def refuse(body: Any, headers: Any) -> Any:
        (name,) = (name for name in body if name.startswith("max_"))
        return 400, {"error": {"message": f"{name} is too large"}}, {}

    server.refuse = refuse
    (done,) = predict(questions[:1]).values()
    assert done.error == "status 400: max_completion_tokens is too large (see --max-new-tokens)"


# What comes back


def test_hostile_text_comes_through(
    serve: Serve, questions: list[Question], tmp_path: Path
) -> None:
    texts = [
        "\ud800 lone \udfff",
        "nul \x00 and \x1b[31m",
        "<answer>" * 100_000,
        "line\nline\r\u2028\u2029\x85",
        '"}]}\\',
        "\U0001f9ca" * 500_000,
    ]
    hashes = {hash_of(q): text for q, text in zip(questions, texts, strict=False)}
    serve(always("right"), answer=hashes.__getitem__)
    path = tmp_path / "predictions.jsonl"
    with path.open("a", encoding="utf-8") as file:
        for one in predict(questions[: len(texts)]).values():
            file.write(one.to_json() + "\n")
    found = read_completions(path)
    assert [found[q.id][0].text for q in questions[: len(texts)]] == texts
    assert {one.status for of in found.values() for one in of} == {"answered"}


def test_reasoning_that_comes_apart(serve: Serve, questions: list[Question]) -> None:
    serve(always("reasoning"))
    (done,) = predict(questions[:1]).values()
    assert done.text == right_answer(hash_of(questions[0]))
    assert done.status == "answered"


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (
            [{"type": "text", "text": "<answer>2.co"}, {"type": "text", "text": "lor.red"}],
            "<answer>2.color.red",
        ),
        ([], ""),
        (["<answer>", "2.color.red", {"text": "</answer>"}], "<answer>2.color.red</answer>"),
        ([{"type": "image"}, {"type": "text", "text": "a"}, {"type": "x", "text": "b"}], "a"),
        ([{"type": "thinking", "thinking": "2"}, {"type": "text", "text": "a"}], THOUGHT),
        ([{"type": "reasoning", "summary": [{"text": "<think>2"}]}, "a"], THOUGHT),
        ([{"type": "redacted_thinking", "data": "x"}, "a"], "a"),
        ({"type": "output_text", "text": "a"}, "a"),
    ],
)
def test_content_in_parts(
    serve: Serve, questions: list[Question], content: list[Any], text: str
) -> None:
    serve(always("right"), answer=lambda _: content)
    (done,) = predict(questions[:1]).values()
    assert (done.text, done.status) == (text, "answered" if text else "empty")


@pytest.mark.parametrize(
    "content", [[{"type": "text"}], [{"type": "image", "text": "a"}], [3], 3, [{"text": None}]]
)
def test_content_that_is_no_text_is_not_made_one(
    serve: Serve, questions: list[Question], content: list[Any]
) -> None:
    server = serve(always("right"), answer=lambda _: content)
    (done,) = predict(questions[:1], retries=5).values()
    assert done.status == "failed"
    assert "content is " in str(done.error)
    assert len(server.asked) == 1  # the next answer would be paid for too, and be the same


def test_inside_an_event_loop_as_in_a_notebook(serve: Serve, questions: list[Question]) -> None:
    async def cell() -> dict[str, Completion]:
        return predict(questions)

    async def left_early() -> Completion:
        answers = Endpoint("m", **QUICK).predict(questions)
        first = next(answers)
        answers.close()
        return first

    server = serve(always("right"))
    straight = predict(questions)
    assert asyncio.run(cell()) == straight
    first = asyncio.run(left_early())
    assert first == straight[first.id]
    server.refuse = lambda body, headers: (401, {}, {})
    with pytest.raises(UserError, match="refuses the key"):
        asyncio.run(cell())


NAMES = (
    *(
        "choices",
        "message",
        "content",
        "finish_reason",
        "usage",
        "error",
        "refusal",
        "code",
        "role",
    ),
    *("prompt_tokens", "completion_tokens", "reasoning_content", "id"),
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4)
    ),
    max_leaves=12,
)


@pytest.fixture(scope="module")
def echo() -> Iterator[Server]:
    with Server(always("right")) as server:
        yield server


ANSWERS = st.tuples(
    st.sampled_from([200, 200, 200, 400, 418, 500]),
    VALUES
    | st.builds(lambda message: {"choices": [{"message": message}]}, VALUES)
    | st.builds(lambda choice, usage: {"choices": [choice], "usage": usage}, VALUES, VALUES)
    | st.sampled_from([b"", b"[" * 100_000, b'{"choices": [{"index": 1' + b"0" * 5000 + b"}]}"]),
)


@settings(max_examples=12)
@given(answers=st.lists(ANSWERS, min_size=10, max_size=GIVE_UP_AFTER - 1))
def test_any_answer_is_a_completion(
    echo: Server, questions: list[Question], answers: list[tuple[int, Any]]
) -> None:
    by_question = {hash_of(q): answer for q, answer in zip(questions, answers, strict=False)}
    asked = questions[: len(answers)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPENAI_BASE_URL", echo.url)
        echo.refuse = lambda body, _: (*by_question[hash_question(body["messages"])], {})
        done = predict(asked, retries=0, timeout=10)
    assert set(done) == {question.id for question in asked}
    for one in done.values():
        assert json.loads(one.to_json())["status"] == one.status
        assert (one.status == "failed") == bool(one.error)
        assert "\n" not in one.error
        assert len(one.error) < 300


# Interruptions


def start(data: Path, out: Path, *flags: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "star_r1.cli", "evaluate", "--model", "endpoint:m"),
            *("--data", str(data), "--out", str(out), *flags),
        ],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "HF_DATASETS_CACHE": str(out.parent / "cache")},
    )


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_ctrl_c_keeps_what_is_under_way(
    serve: Serve, data_folder: Path, questions: list[Question], tmp_path: Path
) -> None:
    """Answers in flight are written; a question between two attempts is left for the next run."""
    paused = hash_of(questions[0])
    server = serve(lambda question, attempt: "503" if question == paused else "slow", slow=0.7)
    out = tmp_path / "run"
    child = start(data_folder, out, "--concurrency", "4", "--retries", "100")
    wait_for(lambda: sum(server.paid().values()) >= 3 and len(server.counts) >= 7)
    child.send_signal(signal.SIGINT)
    _, said = child.communicate(timeout=60)
    assert child.returncode == 130
    assert "interrupted: waiting for the answers under way; Ctrl-C again drops them" in said
    assert said.endswith("interrupted; the same command goes on from what is finished\n")
    written = read_completions(out / "predictions.jsonl")
    assert 3 <= len(written) < ROWS - 1
    wait_for(lambda: not server.busy())
    assert len(written) == sum(server.paid().values())
    assert questions[0].id not in written
    server.plan = always("right")
    evaluate("endpoint:m", data_folder, out, concurrency=4)
    assert set(server.paid().values()) == {1}
    assert len(read_completions(out / "predictions.jsonl")) == ROWS


def test_a_second_ctrl_c_does_not_wait(serve: Serve, data_folder: Path, tmp_path: Path) -> None:
    server = serve(always("hang"))
    child = start(data_folder, tmp_path / "run", "--concurrency", "2")
    wait_for(lambda: len(server.counts) == 2)
    child.send_signal(signal.SIGINT)
    time.sleep(0.5)
    assert child.poll() is None
    child.send_signal(signal.SIGINT)
    _, said = child.communicate(timeout=60)  # an attempt takes longer
    assert child.returncode == 130
    assert "Traceback" not in said


def test_a_full_disk_is_one_line_and_resumes(
    serve: Serve,
    data_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from star_r1.cli import main

    server, out = serve(always("right")), tmp_path / "run"
    words = ["evaluate", "--model", "endpoint:m", "--data", str(data_folder), "--out", str(out)]
    monkeypatch.setattr(sys, "argv", ["star-r1", *words])
    evaluate("endpoint:m", data_folder, tmp_path / "warm", limit=1)  # caches are written
    capsys.readouterr()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, limits[1]))
    try:
        with pytest.raises(SystemExit) as left:
            main()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert left.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: cannot write {out / 'predictions.jsonl'}: File too large")
    assert said.count("\n") == 1
    assert not (out / "metrics.json").exists()
    whole = (out / "predictions.jsonl").read_bytes().count(b"\n")
    assert 0 < whole < ROWS
    before = len(server.asked)
    evaluate("endpoint:m", data_folder, out)
    assert len(server.asked) == before + ROWS - whole
    assert len(read_completions(out / "predictions.jsonl")) == ROWS
