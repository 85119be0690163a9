"""The truth of a sample as datasets hand it to a reward: in columns, or packed into one text."""

import json
from collections.abc import Mapping
from typing import Any, Final, TypeAlias

from star_r1.errors import UserError
from star_r1.tvr.answer import Answer, parse_answer, whole
from star_r1.tvr.change import Change, parse_changes
from star_r1.tvr.vocabulary import STANDARD, Vocabulary

Pair: TypeAlias = tuple[Answer, tuple[Change, ...]]
"""What a completion says, beside the true changes."""

_HINT: Final = "write changes as '2.color.cyan, 0.shape.cube'"


def read(
    completion: str, name: str, answer: Any, vocabulary: str | None = None, changes: Any = None
) -> Pair:
    """A completion read beside its true changes, which stand in columns of our datasets.

    Args:
        completion: text of the model, made ``whole``; whatever it is, it does not raise.
        name: of the sample, for messages.
        answer: the column ``answer``: triplets.
        vocabulary: the column ``vocabulary``; where there is none it is STAR-R1's setting.
        changes: the column ``changes``, read for the options of moves, which ``answer`` has not.

    Raises:
        UserError: a column does not hold what it should.
    """
    try:
        words = Vocabulary.from_json(vocabulary) if vocabulary else STANDARD
    except (ValueError, TypeError) as error:
        raise UserError(f"{name}: the vocabulary column: {error}") from None
    try:
        truth = parse_changes(answer, words)
        if "position" in words.attributes and changes:
            truth = tuple(Change.from_dict(change, words) for change in json.loads(changes))
    except (ValueError, AttributeError, TypeError) as error:
        raise UserError(f"{name}: the answer column holds {answer!r} ({error}); {_HINT}") from None
    return parse_answer(completion, words), truth


def pack(row: Mapping[str, Any]) -> str:
    """One text with all that a reward needs of a row of our datasets: their "ground truth".

    Other engines hand a reward one text for each sample. It is JSON: ``id``, ``changes`` (those
    out of sight with their ``options``) and ``vocabulary``.

    >>> row = {"id": "000000-left", "vocabulary": STANDARD.to_json()}
    >>> row["changes"] = '[{"index": 2, "attribute": "color", "value": "cyan"}]'
    >>> read_packed("<answer>2.color.cyan</answer>", pack(row))[1]
    (Change(index=2, attribute='color', value='cyan'),)
    """
    truth = {
        "id": row["id"],
        "changes": json.loads(row["changes"]),
        "vocabulary": json.loads(row["vocabulary"]),
    }
    return json.dumps(truth, separators=(",", ":"))


def read_packed(completion: str, truth: Any, name: str | None = None) -> Pair:
    """A completion read beside what ``pack`` wrote.

    Args:
        completion: text of the model; whatever it is, it does not raise. What its prompt ended in
            is not known here: ``tvr.answer.whole`` says how the text tells.
        truth: what ``pack`` wrote, or plain triplets in STAR-R1's setting: ``"2.color.cyan"``.
        name: of the sample, for messages; else the ``id`` in ``truth`` is taken.

    Raises:
        UserError: ``truth`` is neither.

    >>> answer, changes = read_packed("<answer>2.color.red</answer>", "2.color.cyan, 0.shape.cube")
    >>> answer.changes, len(changes)
    ((Change(index=2, attribute='color', value='red'),), 2)
    """
    completion = whole(completion)
    try:
        if not truth.lstrip().startswith("{"):
            return parse_answer(completion), parse_changes(truth)
        record = json.loads(truth)
        name = name or f"sample {record['id']}"
        vocabulary = Vocabulary.from_dict(record["vocabulary"])
        changes = tuple(Change.from_dict(change, vocabulary) for change in record["changes"])
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
        what = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise UserError(
            f"{name or 'a sample'}: the ground truth is {_cut(repr(truth))} ({_cut(what)}); "
            f"export the data by 'star-r1 export', or {_HINT}"
        ) from None
    return parse_answer(completion, vocabulary), changes


def _cut(text: str) -> str:
    return text if len(text) <= 100 else text[:97] + "..."
