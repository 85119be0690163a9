"""TVR as a task of Inspect AI: ``inspect eval star_r1/tvr -T data=data/test --model ...``.

Inspect finds it by the entry point ``star_r1`` of its group ``inspect_ai``.
"""

import base64
from collections.abc import Iterator, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

from inspect_ai import Task, task
from inspect_ai.dataset import MemoryDataset
from inspect_ai.dataset import Sample as Question
from inspect_ai.model import (
    ChatMessage,
    ChatMessageSystem,
    ChatMessageUser,
    ContentImage,
    ContentReasoning,
    ContentText,
    GenerateConfig,
    ModelOutput,
)
from inspect_ai.scorer import Metric, SampleScore, Score, Scorer, Target, metric, scorer
from inspect_ai.solver import TaskState, generate

from star_r1.data.dataset import SAMPLE_COLUMNS, read_columns, row_to_sample
from star_r1.data.pictures import plain_files, read_pair
from star_r1.errors import UserError
from star_r1.evaluate.one_row import row_values
from star_r1.metrics import Tally, judge
from star_r1.tvr.answer import Answer, parse_answer, whole
from star_r1.tvr.change import format_changes
from star_r1.tvr.prompt import PROMPTS, PromptName, build_prompt, has_table
from star_r1.tvr.sample import Sample

__all__ = ["tvr"]


@task  # type: ignore[untyped-decorator]
def tvr(data: str, views: str | list[str] | None = None, prompt: PromptName = "think") -> Task:
    """The rows of a dataset, asked greedily and scored with the 11 metrics.

    The questions, the reading of the answers and the metrics are those of ``star-r1 evaluate``.
    What goes by other names here: ``--limit``, ``--epochs`` for several completions a row,
    ``--max-tokens``, ``--temperature``. All pictures are loaded into memory.

    Args:
        data: a dataset folder, as ``star-r1 generate`` writes it.
        views: only rows with these final views, such as ``left,right``; None for all.
        prompt: one of ``tvr.prompt.PROMPTS``.

    Raises:
        UserError: the data cannot be read or has no such view, there is no such prompt, or this
            data does not allow it.
    """
    wanted = views.split(",") if isinstance(views, str) else views
    if prompt not in PROMPTS:
        raise UserError(f"-T prompt={prompt}: choose {', '.join(PROMPTS)}")
    return Task(
        dataset=MemoryDataset(list(_ask(Path(data), wanted, prompt)), name="tvr"),
        solver=generate(),
        scorer=changes(),
        config=GenerateConfig(temperature=0.0),
    )


def _ask(data: Path, views: Sequence[str] | None, prompt: PromptName) -> Iterator[Question]:
    """The rows as Inspect asks them; what scoring needs of a row is the metadata."""
    found = set()
    for row in read_columns(data, (*SAMPLE_COLUMNS, "prompt", "images", "answer")):
        found.add(row["view"])
        if views and row["view"] not in views:
            continue
        sample = row_to_sample(row)
        messages = row["prompt"] if prompt == "think" else build_prompt(sample, prompt)
        pictures = iter(_pictures(row, sample, prompt))
        yield Question(
            id=row["id"],
            input=[_message(message, pictures) for message in messages],
            target=row["answer"],
            metadata={column: row[column] for column in SAMPLE_COLUMNS},
        )
    if unknown := [view for view in views or () if view not in found]:
        raise UserError(
            f"{data}: no row has view {unknown[0]!r}; it holds {', '.join(sorted(found))}"
        )


def _pictures(row: Mapping[str, Any], sample: Sample, prompt: PromptName) -> tuple[bytes, bytes]:
    """The two PNG files; without a table in the prompt the first one bears the indices."""
    initial, final = (content for content, _ in plain_files(row))
    if not has_table(prompt):
        from star_r1.data.marks import mark

        with BytesIO() as file:
            mark(read_pair(row)[0], sample.initial, sample.rig, "center").save(file, "PNG")
            initial = file.getvalue()
    return initial, final


def _message(message: Mapping[str, Any], pictures: Iterator[bytes]) -> ChatMessage:
    kind = {"system": ChatMessageSystem, "user": ChatMessageUser}[message["role"]]
    return kind(
        content=[
            ContentText(text=part["text"]) if part["type"] == "text" else _image(next(pictures))
            for part in message["content"]
        ]
    )


def _image(png: bytes) -> ContentImage:
    return ContentImage(image=f"data:image/png;base64,{base64.b64encode(png).decode()}")


@metric(scores="unreduced")  # type: ignore[untyped-decorator]
def star_metrics() -> Metric:
    """The numbers of metrics.json: ``group/metric``, then ``.../low`` and ``.../high``.

    ``unreduced`` is every epoch by itself: here it is the mean over the completions of a row that
    counts, whatever ``--epochs-reducer`` says. Metrics without samples are left out.
    """

    def compute(scores: list[SampleScore]) -> dict[str, float | None]:
        answered: dict[Any, list[tuple[Answer, Sample]]] = {}
        for one in scores:
            pair = _read(one.score.answer, one.sample_metadata or {})
            answered.setdefault(one.sample_id, []).append(pair)
        tally = Tally()
        for pairs in answered.values():
            tally.add(pairs[0][1], [judge(answer, sample) for answer, sample in pairs])
        found: dict[str, float | None] = {}
        for group, of in tally.scores().items():
            for name, measured in of.items():
                if measured["value"] is not None:
                    found[f"{group}/{name}"] = measured["value"]
                if measured["ci95"] is not None:
                    found[f"{group}/{name}/low"], found[f"{group}/{name}/high"] = measured["ci95"]
        return found

    return compute


@scorer(metrics=[star_metrics()], name="tvr")  # type: ignore[untyped-decorator]
def changes() -> Scorer:
    """Scores a completion: its value holds what the sample adds to each overall metric."""

    async def score(state: TaskState, target: Target) -> Score:
        text = completion_text(state.output)
        answer, sample = _read(text, state.metadata)
        said = ", ".join(prediction.text for prediction in answer.predictions)
        return Score(
            value=row_values([text], sample),
            answer=text,
            explanation=f"predicted: {said or 'none'}\ntrue: {format_changes(sample.changes)}\n"
            f"format: {answer.problem or 'kept'}",
        )

    return score


def _read(text: str | None, row: Mapping[str, Any]) -> tuple[Answer, Sample]:
    sample = row_to_sample(row)
    return parse_answer(text, sample.vocabulary), sample


def completion_text(output: ModelOutput) -> str:
    """What the model wrote, its reasoning included.

    Inspect takes the think block out of what an endpoint returns, and so do some endpoints; it is
    put back in front. (White space at its ends, and what stood before it, do not come back as they
    were.) Reasoning that is handed over encrypted stays away.

    Source: ``parse_reasoning_content`` in inspect_ai/model/_openai.py, 0.3.285.
    """
    if not output.choices:
        return ""
    content = output.choices[0].message.content
    if isinstance(content, str):
        return whole(content)
    texts = "".join(part.text for part in content if isinstance(part, ContentText))
    # Where nothing else is left, Inspect keeps the whole as text too; ``whole`` adds nothing then.
    thoughts = "".join(
        part.reasoning
        for part in content
        if isinstance(part, ContentReasoning) and not part.redacted
    )
    return whole(texts, reasoning=thoughts)
