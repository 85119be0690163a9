"""What an endpoint refuses is left out and said once; what is ours or the user's is not."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.evaluate.asking import Serve, always, hash_of, predict
from tests.evaluate.misbehaving_server import hash_question

from star_r1.errors import UserError
from star_r1.evaluate.endpoint import Endpoint
from star_r1.evaluate.predictor import Question
from star_r1.evaluate.run import evaluate

DRAWN = {"temperature": 0.7, "top_p": 0.9, "seed": 3}


def refuse(*names: str) -> Callable[[Mapping[str, Any], Any], Any]:
    """What refuses the first of these parameters that a request has, by OpenAI's words."""

    def answer(body: Mapping[str, Any], headers: Any) -> Any:
        for name in names:
            if name in body:
                status = {"seed": 422, "top_p": 501}.get(name, 400)
                return status, {"error": {"message": f"Unsupported parameter: {name!r}"}}, {}
        return None

    return answer


@pytest.mark.parametrize(
    ("names", "settings", "sent"),
    [
        (["seed"], DRAWN, {"temperature": 0.7, "top_p": 0.9, "max_completion_tokens": 9}),
        (["temperature"], {}, {"max_completion_tokens": 9}),
        (["top_p"], DRAWN, {"temperature": 0.7, "seed": 3, "max_completion_tokens": 9}),
        (["max_completion_tokens"], {}, {"temperature": 0.0, "max_tokens": 9}),
        (["seed", "max_completion_tokens", "temperature", "top_p"], DRAWN, {"max_tokens": 9}),
    ],
)
def test_what_is_refused_is_left_out_and_said_once(
    serve: Serve,
    questions: list[Question],
    capsys: pytest.CaptureFixture[str],
    names: list[str],
    settings: Mapping[str, Any],
    sent: Mapping[str, Any],
) -> None:
    server = serve(always("right"))
    server.refuse = refuse(*names)
    done = predict(questions, concurrency=4, max_new_tokens=9, **settings)
    assert {one.status for one in done.values()} == {"answered"}
    for asked in server.asked:
        assert {**asked.body, "messages": None} == {**sent, "model": "m", "messages": None}
    said = capsys.readouterr().err.splitlines()
    optional = [name for name in names if name != "max_completion_tokens"]
    assert len(said) == len(optional)
    for name in optional:
        (line,) = (one for one in said if f" refuses {name} " in one)
        assert f"(Unsupported parameter: '{name}'): left out from now on, so " in line
        assert f"--{name.replace('_', '-')}" in line


def test_what_is_refused_once_is_asked_of_the_first_questions_alone(
    serve: Serve, questions: list[Question]
) -> None:
    server, refused = serve(always("right")), []

    def answer(body: Mapping[str, Any], headers: Any) -> Any:
        if "temperature" in body:
            refused.append(body)
        return refuse("temperature")(body, headers)

    server.refuse = answer
    predict(questions, concurrency=2)
    assert len(refused) <= 2
    assert len(server.asked) == len(questions)


@pytest.mark.parametrize(
    "message",
    [
        "'temperature' must be at most 1, seed may be large, and the picture is too small",
        "The prompt (top_p) is too long",
    ],
)
def test_an_error_that_leaving_out_does_not_mend_leaves_nothing_out(
    serve: Serve, questions: list[Question], capsys: pytest.CaptureFixture[str], message: str
) -> None:
    """One row's picture may be at fault, whatever the words are."""
    server, broken = serve(always("right")), questions[3]
    server.refuse = lambda body, headers: (
        (400, {"error": {"message": message}}, {})
        if hash_question(body["messages"]) == hash_of(broken)
        else None
    )
    done = predict(questions[:6], concurrency=1, **DRAWN)
    assert [one.id for one in done.values() if one.status == "failed"] == [broken.id]
    assert done[broken.id].error.startswith("status 400: ")
    assert not capsys.readouterr().err
    assert all("temperature" in asked.body for asked in server.asked)


def test_a_filter_that_speaks_of_a_parameter_is_a_filter(
    serve: Serve, questions: list[Question]
) -> None:
    server = serve(always("right"))
    words = "flagged as unsafe at this temperature"
    server.refuse = lambda body, headers: (400, {"error": {"message": words}}, {})
    done = predict(questions[:3])
    assert {one.status for one in done.values()} == {"refused"}


# The user's own fields


def test_extra_fields_are_sent_recorded_and_part_of_the_key(
    serve: Serve, data_folder: Path, tmp_path: Path
) -> None:
    server, out = serve(always("right")), tmp_path / "run"
    extra = {"reasoning_effort": "low", "chat_template_kwargs": {"enable_thinking": False}}
    evaluate("endpoint:m", data_folder, out, limit=2, extra_body=extra)
    assert all(asked.body | extra == asked.body for asked in server.asked)
    identity = json.loads((out / "run.json").read_text())["identity"]
    assert identity["extra_body"] == extra
    evaluate("endpoint:m", data_folder, out, limit=2, extra_body=dict(reversed(extra.items())))
    assert len(server.asked) == 2
    for other in (None, {"reasoning_effort": "high"}):
        with pytest.raises(UserError, match=r"extra_body .*choose another --out"):
            evaluate("endpoint:m", data_folder, out, limit=2, extra_body=other)


def test_what_the_user_asks_for_is_never_left_out(serve: Serve, questions: list[Question]) -> None:
    server = serve(always("right"))
    server.refuse = refuse("top_k")
    (done,) = predict(questions[:1], extra_body={"top_k": 1}).values()
    assert done.error == "status 400: Unsupported parameter: 'top_k'"


@pytest.mark.parametrize(
    ("extra", "says"),
    [
        ({"model": "n"}, "'model' has its own place; give --model endpoint:NAME"),
        ({"messages": []}, "'messages' has its own place; give --data, --prompt"),
        ({"temperature": 1}, "'temperature' has its own place; give --temperature"),
        ({"max_tokens": 1}, "'max_tokens' has its own place; give --max-new-tokens"),
        ({"n": 2}, "'n' has its own place; give --samples-per-prompt"),
        ({"stream": True}, "'stream' has its own place; answers are read whole"),
        ({"a": float("nan")}, "no JSON"),
        ({"a": {1, 2}}, "no JSON"),
        ({"a": "sk-0123456789abcdef"}, "holds the key"),
    ],
)
def test_extra_fields_that_are_none(serve: Serve, extra: dict[str, Any], says: str) -> None:
    serve()
    with pytest.raises(UserError, match="--extra-body") as raised:
        Endpoint("m", extra_body=extra)
    assert says in str(raised.value)
    assert "0123456789" not in str(raised.value)


@pytest.mark.parametrize("model", ["mini", "baseline:silent"])
def test_only_an_endpoint_takes_extra_fields(data_folder: Path, tmp_path: Path, model: str) -> None:
    with pytest.raises(UserError, match="--extra-body: only an endpoint takes it"):
        evaluate(model, data_folder, tmp_path / "run", extra_body={"top_k": 1})
    assert not (tmp_path / "run").exists()


# A run that goes on


def test_what_was_left_out_is_recorded_and_stays_so_when_a_run_goes_on(
    serve: Serve, data_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Else a file would hold answers of two kinds; nothing is asked or paid for twice."""
    server, out = serve(always("right")), tmp_path / "run"
    server.refuse = refuse("temperature")
    evaluate("endpoint:m", data_folder, out, limit=3)
    assert json.loads((out / "run.json").read_text())["left_out"] == ["temperature"]
    lines = (out / "predictions.jsonl").read_bytes()
    assert "not asked for, since the endpoint refuses it: temperature" in capsys.readouterr().err
    server.refuse = lambda body, headers: None
    evaluate("endpoint:m", data_folder, out, limit=5)
    assert (out / "predictions.jsonl").read_bytes().startswith(lines)
    assert len(server.asked) == 5
    assert not any("temperature" in asked.body for asked in server.asked)
    assert json.loads((out / "run.json").read_text())["left_out"] == ["temperature"]
    assert "not asked for, since the endpoint refuses it" in capsys.readouterr().err


def test_nothing_is_recorded_where_nothing_is_refused(
    serve: Serve, data_folder: Path, tmp_path: Path
) -> None:
    serve(always("right"))
    evaluate("endpoint:m", data_folder, tmp_path / "run", limit=1)
    assert "left_out" not in json.loads((tmp_path / "run" / "run.json").read_text())
