"""A sentence -> what its words say of what it names, added to the story."""

from collections.abc import Callable
from typing import Final

from star_r1.analyze.items import Reference, role_at, text_at
from star_r1.analyze.naming import INSTEAD, refer
from star_r1.analyze.sentences import Sentence
from star_r1.analyze.statements import Statements
from star_r1.analyze.story import Story, Verdict
from star_r1.analyze.syntax import CLOSING, scope
from star_r1.analyze.words import Word
from star_r1.tvr.change import Change
from star_r1.tvr.vocabulary import DIRECTIONS, MOVES


def tell(story: Story, sentence: Sentence) -> None:
    """Add what a sentence says to the story: its items from left to right, then its end."""
    story.open(sentence)
    if sentence.heading:
        return
    said = Statements(story, sentence)
    for n, item in enumerate(said.items):
        if isinstance(item, Reference):
            refer(said, n, item)
        elif (handler := _HANDLERS.get(item.role)) is not None:
            handler(said, n, item)
    _end(said)


def _end(said: Statements) -> None:
    verdict = said.pending or (said.judged if said.likewise else "")
    if verdict and said.phase == "naming" and not said.excepting:
        said.judge(tuple(said.group), verdict)
    if said.subject is not None and said.phase != "naming":
        about = said.subject
    elif said.named:
        about = tuple(said.group) if len(said.group) == 1 else ()
    else:
        about = said.story.last
    said.story.close(said.sentence, about, said.topic, said.named, said.judged)


def _value(said: Statements, n: int, word: Word) -> None:
    if said.hushed:
        return
    said.verb()
    target = said.target
    if said.negated:
        for index in target:
            if said.facts.was(index, word.attribute) == word.value:
                said.facts.compare(index)  # "is not red any more"
        return
    for index in said.settle(target, True) if said.sides[n] == "before" else target:
        side, key = said.sides[n], (index, word.attribute)
        if not side and said.facts.was(*key) != word.value:
            side = "after"  # what the table does not say, the text must have seen
        if side:
            said.say(index, word.attribute, word.value, side)


def _triplet(said: Statements, n: int, word: Word) -> None:
    index = int(word.text)
    said.mention((index,), word.start)
    if not word.value:
        said.add((index,))
        return
    try:
        change = Change.parse(
            f"{index}.{word.attribute}.{word.value}", said.facts.sample.vocabulary
        )
    except ValueError:
        return
    if said.hushed or said.negated or said.sentence.question:
        return
    if role_at(said.items, n + 1) == "arrow":
        said.facts.say_before(index, word.attribute, word.value)
    elif role_at(said.items, n - 1) == "arrow" and word.attribute != "position":
        said.facts.say_after(index, word.attribute, word.value)
    else:
        said.facts.state(change)


def _move(said: Statements, n: int, word: Word) -> None:
    """ "moved 2 steps to the front left", where objects may move."""
    _predicate(said, n, word)
    if "position" not in said.facts.sample.vocabulary.attributes:
        return
    direction = steps = ""
    for item in said.items[n + 1 : n + 10]:
        if isinstance(item, Reference) or item.role == "but":
            break
        text = item.value if item.role == "direction" else item.text
        direction = text if text in DIRECTIONS and not direction else direction
        steps = item.text if item.role == "number" and not steps else steps
    unsaid = said.hushed or said.negated or said.sentence.question
    if not unsaid and f"{direction}.{steps}" in MOVES:
        for index in said.settle(said.target, False):
            said.facts.state(Change(index, "position", f"{direction}.{steps}"))


def _verdict(said: Statements, n: int, word: Word) -> None:
    if word.role == "changed":
        said.changing = not said.negated
    if said.hushed or said.sentence.question:
        return
    said.verb()
    verdict: Verdict = "changed" if word.role == "changed" and not said.negated else "same"
    later = n < said.last_reference
    if said.inside is None and said.subject is None and (later or not said.story.last):
        said.pending, said.phase = verdict, "telling"
        return
    attributes = scope(said.items, n)
    said.judge(said.target, verdict, attributes)
    plain = word.text.isalpha() and not attributes
    if verdict == "same" and plain and role_at(said.items, n + 1) in CLOSING:
        for index in said.target:  # "small cube now large cube same": the verdict decides
            said.facts.withdraw(index)


def _still(said: Statements, n: int, word: Word) -> None:
    _predicate(said, n, word)
    if not said.hushed and not said.sentence.question:
        said.judge(said.target, "same", ("",))


def _place(said: Statements, n: int, word: Word) -> None:
    said.placed = True
    named = said.phase == "naming" and role_at(said.items, n - 1) == "reference"
    if named and said.sides[n] == "after" and said.group and said.group[-1] >= 0:
        said.facts.correspond(said.group[-1])  # "object 6 next to it, ..."
    if said.phase != "naming" or said.inside is not None:
        now = said.subject is not None and not said.named and not said.sides[n]
        now = now and all(map(said.story.is_now, said.target))
        said.put("after" if now else said.sides[n])


def _hidden(said: Statements, n: int, word: Word) -> None:
    """What is hidden is not looked at."""
    _predicate(said, n, word)
    said.hushed = True


def _predicate(said: Statements, n: int, word: Word) -> None:
    if text_at(said.items, n - 1) != "what":
        said.connected = True
        said.verb()


def _connect(said: Statements, n: int, word: Word) -> None:
    said.connected = True
    said.contrast |= word.role == "from"
    if word.value == "both" and said.phase != "open" and not said.hushed:
        said.judge(said.target, "same", ("",))  # "appears in both pictures"
    if word.role == "to" and role_at(said.items, n - 1) == "reference":
        said.verb()  # "I match object 3 to ..."
    described = role_at(said.items, n + 1) in ("reference", "value")
    if word.role == "time" and role_at(said.items, n - 1) == "reference" and described:
        said.verb()  # "gray cube now green cube"


def _mark(said: Statements, n: int, word: Word) -> None:
    if word.text == "=" and role_at(said.items, n + 1) in CLOSING | {"reference"}:
        _verdict(said, n, word)  # alone it says that nothing changed
    elif word.text in ("(", "["):
        behind = said.phase == "naming" and role_at(said.items, n - 1) == "reference"
        said.inside = tuple(said.group[-1:]) if behind else None
        said.connected = True
    elif word.text in (")", "]"):
        said.inside = None
    elif word.text == ":" or (word.text == "|" and said.sentence.row):
        if said.phase == "naming":
            said.verb()
            said.phase = "open"
            said.topic = said.subject or () if word.text == ":" else said.topic
        said.connected, said.negated, said.hushed = True, False, False
    elif word.text in (",", "—", "–", "|") and said.inside is None:
        _part(said, n, word)


def _part(said: Statements, n: int, word: Word) -> None:
    """A comma or "but": another subject may follow."""
    said.begin_part()
    _and(said, n, word)


def _and(said: Statements, n: int, word: Word) -> None:
    if said.inside is None and said.phase == "telling":
        said.phase, said.connected, said.negated = "open", False, False


def _pronoun(said: Statements, n: int, word: Word) -> None:
    if said.phase == "naming" or said.inside is not None:
        return
    if said.phase == "telling" and word.text in ("that", "this"):
        return  # "it shows that ..."
    if word.text == "it 's" or text_at(said.items, n + 1) == "'s":
        _predicate(said, n, word)
    after = role_at(said.items, n + 1)
    if word.text in ("both", "all three") and after not in (
        "pronoun",
        "attribute",
        "article",
        "value",
    ):
        count = 2 if word.text == "both" else 3
        said.subject = tuple(dict.fromkeys(reversed(said.story.named)))[:count]
        said.phase = "telling"
    elif said.subject is None:
        said.subject = said.story.last


def _blanket(said: Statements, n: int, word: Word) -> None:
    if said.phase != "telling" and said.inside is None:
        said.group, said.subject, said.phase = [], (), "naming"


def _except(said: Statements, n: int, word: Word) -> None:
    said.group, said.subject, said.phase = [], (), "open"
    said.excepting, said.negated = True, False


def _doubt(said: Statements, n: int, word: Word) -> None:
    said.hushed = True


def _not(said: Statements, n: int, word: Word) -> None:
    said.negated = True


def _nor(said: Statements, n: int, word: Word) -> None:
    if n == 0:
        said.pending = said.story.judged or "same"
    said.likewise = True


def _also(said: Statements, n: int, word: Word) -> None:
    said.likewise = True


def _exist(said: Statements, n: int, word: Word) -> None:
    said.exists = True
    said.instead |= word.text in INSTEAD
    said.hushed |= said.negated  # "I cannot find"


def _instead(said: Statements, n: int, word: Word) -> None:
    said.instead = True


def _yes(said: Statements, n: int, word: Word) -> None:
    if said.sentence.row:
        said.judge(said.target, "changed")
    elif n == 0:
        for index in said.story.asked:
            said.facts.compare(index)


def _no(said: Statements, n: int, word: Word) -> None:
    if said.sentence.row:
        said.judge(said.target, "same")
    elif role_at(said.items, n + 1) in ("mark", "end", "wait", "no"):
        _yes(said, n, word)
        _wait(said, n, word)
    else:
        said.negated = True


def _wait(said: Statements, n: int, word: Word) -> None:
    said.facts.correct()
    said.corrects = True


def _take_back(said: Statements, n: int, word: Word) -> None:
    said.facts.take_back()


_HANDLERS: Final[dict[str, Callable[[Statements, int, Word], None]]] = {
    "value": _value,
    "triplet": _triplet,
    "mark": _mark,
    "and": _and,
    "but": _part,
    "still": _still,
    "pronoun": _pronoun,
    "blanket": _blanket,
    "except": _except,
    "doubt": _doubt,
    "not": _not,
    "nor": _nor,
    "also": _also,
    "hidden": _hidden,
    "exist": _exist,
    "instead": _instead,
    "yes": _yes,
    "no": _no,
    "wait": _wait,
    "take back": _take_back,
    **dict.fromkeys(("same", "changed"), _verdict),
    **dict.fromkeys(("place", "beside"), _place),
    "move": _move,
    **dict.fromkeys(("past", "present", "become", "link", "arrow"), _predicate),
    **dict.fromkeys(("from", "to", "picture", "time"), _connect),
}
