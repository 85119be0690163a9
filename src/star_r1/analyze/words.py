"""A vocabulary -> the words that the reader of reasonings knows, each by the part it plays."""

from functools import lru_cache
from typing import Final, Literal, NamedTuple, TypeAlias

from star_r1.tvr.vocabulary import ATTRIBUTES, DIRECTIONS, Vocabulary

Role: TypeAlias = Literal[
    "value",  # red, small, cube: ``attribute`` and ``value`` say which
    "noun",  # object, one: may end an attribute phrase
    "attribute",  # color: ``attribute`` says which
    "label",  # index, no.: a number after it is an index
    "triplet",  # 2.color.cyan; ``value`` is empty where it ends at the attribute
    "number",
    "picture",  # the first picture: ``value`` is the side
    "time",  # now, initially: ``value`` is the side
    "past",  # was: before
    "present",  # is, looks
    "from",  # what follows is before
    "to",  # what follows is after
    "arrow",  # what stands on its left is before, on its right after
    "become",  # what follows is after
    "still",  # what follows is after, and nothing changed
    "same",
    "changed",
    "link",  # corresponds to
    "move",  # moved
    "place",  # left, corner
    "hidden",
    "beside",  # next to: what follows is a landmark
    "direction",  # where a move goes: ``value`` says it
    "not",
    "pronoun",
    "blanket",  # everything, the others
    "except",
    "doubt",  # if, whether: what follows is not said
    "reason",  # perspective: why something only looks different
    "instead",  # what is found after this stands for what it was
    "exist",  # there is, I see
    "and",
    "but",
    "nor",  # what is named here is as what was named before: "neither has the cube"
    "also",
    "article",
    "yes",
    "no",
    "wait",  # what was stated before may be replaced
    "take back",  # what was just stated does not count
    "mark",
    "newline",
    "other",
]

Side: TypeAlias = Literal["before", "after"]


class Word(NamedTuple):
    """One word (or fixed expression), number or mark of a reasoning.

    Attributes:
        role: the part it plays.
        text: in lower case.
        start: its place in the text.
        attribute, value: what ``role`` says; else empty.
    """

    role: Role
    text: str
    start: int
    attribute: str = ""
    value: str = ""


Meaning: TypeAlias = tuple[Role, str, str]
"""Role, attribute, value."""

SHAPE_ADJECTIVES: Final = frozenset(("spherical", "cubic", "cubical", "cylindrical"))
"""Values of shape that end no attribute phrase."""

_SYNONYMS: Final[dict[tuple[str, str], str]] = {
    ("color", "gray"): "grey, greyish, grayish",
    ("color", "red"): "reddish",
    ("color", "blue"): "bluish",
    ("color", "green"): "greenish",
    ("color", "brown"): "brownish",
    ("color", "purple"): "violet, purplish",
    ("color", "cyan"): "turquoise, teal, aqua, light blue, sky blue",
    ("color", "yellow"): "yellowish",
    ("shape", "cube"): "box, block, cubic, cubical",
    ("shape", "sphere"): "ball, orb, spherical",
    ("shape", "cylinder"): "cylindrical, tube, drum",
    ("size", "small"): "tiny, little",
    ("size", "medium"): "mid, mid size, mid sized, middle sized",
    ("size", "large"): "big, huge",
    (
        "material",
        "metal",
    ): "mirror finish, mirror like, mirrored, metallic, shiny, reflective, glossy, chrome",
    ("material", "rubber"): "matte, matt, rubbery",
    ("material", "glass"): "transparent, translucent, glassy, see through",
}
"""What a value is called besides its name, in vocabularies that have it."""

_PICTURES: Final = ("picture", "image", "view", "scene", "photo", "frame", "shot", "table", "list")
_FIRST: Final = ("first", "initial", "original", "1st", "earlier", "starting", "before", "old")
_SECOND: Final = ("second", "final", "2nd", "last", "later", "new", "after", "other", "ending")


def _all(role: Role, texts: str, attribute: str = "", value: str = "") -> dict[str, Meaning]:
    """Each of the texts means the same; they are parted into words as ``lex`` parts them."""
    parted = texts.replace("'s", " 's").replace("i'd", "i d")
    return dict.fromkeys(parted.split(", "), (role, attribute, value))


def _pictures() -> dict[str, Meaning]:
    """All ways to name one of the two pictures, or both of them."""
    names: dict[str, Meaning] = {}
    for side, adjectives, numbers in (
        ("before", _FIRST, ("1", "a", "one")),
        ("after", _SECOND, ("2", "b", "two")),
    ):
        named = [f"{adjective} {noun}" for adjective in adjectives for noun in _PICTURES]
        named += [f"{noun} {number}" for noun in _PICTURES[:7] for number in numbers]
        for start in ("", "the ", "in ", "in the ", "of the ", "from the ", "on the ", "by the "):
            names |= {start + name: ("picture", "", side) for name in named}
            if start.startswith("in"):
                names |= {start + name: ("picture", "", side) for name in adjectives[:2]}
    for noun in (*_PICTURES, "ones"):
        for both in ("both {}s", "the two {}s", "each {}", "either {}"):
            names[f"in {both.format(noun)}"] = ("picture", "", "both")
    names["in both"] = ("picture", "", "both")
    return names


def _hidden() -> dict[str, Meaning]:
    """Hidden, which tells nothing of a thing; and partly hidden, which tells its place."""
    names: dict[str, Meaning] = {}
    for word in ("hidden", "occluded", "blocked", "covered", "obscured"):
        for place in ("", " by", " behind"):
            names[word + place] = ("hidden", "", "")
            for partly in ("partly", "partially", "half", "slightly"):
                names[f"{partly} {word}{place}"] = ("beside", "", "")
    return names


_PLAIN: Final[dict[str, Meaning]] = {
    **_all("noun", "object, objects, one, ones, thing, things, item, items, obj, objs, obj."),
    **_all("label", "index, indices, idx, idx., id, ids, no., nr., number"),
    **_all("attribute", "col", "color"),
    **_all("attribute", "mat", "material"),
    **_all("attribute", "color, colors, colour, colours, colored, coloured", "color"),
    **_all("attribute", "shape, shapes, shaped, geometry", "shape"),
    **_all("attribute", "size, sizes, sized", "size"),
    **_all("attribute", "material, materials, texture", "material"),
    **_all("attribute", "position, location", "position"),
    **_pictures(),
    **_all("picture", "initial state, original state, starting state", value="before"),
    **_all("picture", "final state, end state, ending state", value="after"),
    **_all("time", "initial, initially, original, originally, previously", value="before"),
    **_all("time", "formerly, before, at first, at the start", value="before"),
    **_all("time", "finally", value="after"),
    **_all("time", "now, final, currently, after, afterwards, at the end", value="after"),
    **_all("past", "was, were, had been, used to be, had"),
    **_all("present", "shows, shows up, ends up, comes, placed, appearing"),
    **_all("present", "find it, found it, see it"),
    **_all("present", "found, visible, located, sits, stands, lies, standing, sitting, seen"),
    **_all("present", "is, are, looks, look, appears, appear, has, have, seems, seem"),
    **_all("from", "look for, looking for, search for, searching for"),
    **_all("from", "from, instead of, rather than, no longer, replacing"),
    **_all("to", "to, into, value, new"),
    **_all("arrow", "vs, vs., versus, becomes"),
    **_all("become", "taken by, taken over by"),
    **_all("become", "replaced by, replaced with, swapped for, swapped with, turned into"),
    **_all("become", "became, become, turned, turns, turning, turn, repainted, recolored, gone"),
    **_all("still", "still, remains, remain, remained, stays, stay, stayed, kept, keeps"),
    **_all("same", "same, unchanged, identical, unmodified, unaltered, unaffected, intact, equal"),
    **_all("same", "as ever, is where it was, where it should be, where they were"),
    **_all("same", "present, constant, as they did, as it did, as they were, as it was"),
    **_all("same", "no change, no changes, no difference, no differences, untouched"),
    **_all("same", "nothing happened, nothing changed, nothing has changed, nothing is different"),
    **_all("same", "as before, consistent, preserved, persists, ok"),
    **_all("changed", "changed, changes, change, different, differs, differ, altered, modified"),
    **_all("changed", "difference, differences, swapped, switched, replaced, switches"),
    **_all("changed", "grew, grown, shrank, shrunk, enlarged, converted, mismatch, goes, went"),
    **_all("link", "corresponds, correspond, corresponding, matches, match, matched, maps"),
    **_all("changed", "lost, loses, vanished, disappeared, missing"),
    **_all("changed", "shinier, duller, diff, diffs, decreases, increases, happened, chg"),
    **_all("changed", "bigger, smaller, larger, taller, shorter, darker, lighter"),
    **_all("link", "must be, must have been, should be, has to be, would be, counterpart, i.e."),
    **_all("link", "equals, identified, which is"),
    **_all("move", "swings, swung, travels, wanders, rotates, slides, slid"),
    **_all("move", "moved, moves, move, shifted, shifts, relocated"),
    **_all("place", "left, right, front, back, behind, center, centre, middle, corner, rear"),
    **_all("place", "foreground, background, top, bottom, near, far, edge, nearest, closest"),
    **_all("place", "leftmost, rightmost, farthest, upper, lower, side, front left, front right"),
    **_all("noun", "remaining object, other object, only object, remaining one, other one"),
    **_hidden(),
    **_all("beside", "next to, close to, beside, in front of, left of, right of, behind the"),
    **_all("beside", "to the left of, to the right of, between, near the, above, below"),
    **_all("not", "not, never, cannot, isn't, aren't, wasn't, didn't, doesn't"),
    **_all(
        "pronoun", "all three, it, its, it's, itself, they, their, this, that, these, both, them"
    ),
    **_all("blanket", "everything, nothing, others, rest, remaining, else, all, every, each"),
    **_all("blanket", "anything, none of, otherwise, other objects"),
    **_all("except", "all but, everything but, anything but, nothing but"),
    **_all("except", "except, except for, apart from, other than, besides"),
    **_all("doubt", "if, whether, maybe, might, perhaps, possibly, could be, may be, may have"),
    **_all("doubt", "guess, guessed, impression, first idea"),
    **_all("doubt", "took, as if, as though"),
    **_all("doubt", "could have, thought, suspected, at first glance, at first sight"),
    **_all("doubt", "at first look"),
    **_all("reason", "lighting, illusion, shadow, reflection, closer, farther, occlusion"),
    **_all("instead", "where there was, where there were, where there used to be"),
    **_all("instead", "at the position of, in the position of, at the place of, in the place of"),
    **_all("instead", "at the spot of, in the spot of, in place of"),
    **_all("instead", "i expect, i would expect, expected, i'd expect, we expect"),
    **_all("exist", "instead, in its place, in their place, at its place, where it was"),
    **_all("exist", "where it stood, at that place, in that place, at that spot, in that spot"),
    **_all("exist", "there should be, there would be, i can see, i can find"),
    **_all("exist", "there is, there's, there are, i see, we see, see, we have, i find, find"),
    **_all(
        "nor", "nor, nor has, nor is, nor does, nor did, neither, neither has, neither is, likewise"
    ),
    **_all("nor", "so has, so is, so does, same goes for, the same goes for"),
    **_all("also", "too, also, as well"),
    **_all("and", "and, as well as, plus, or"),
    **_all("but", "but, while, whereas, though, although, however, because, so, since, then"),
    **_all("article", "as for, as to, as"),
    **_all("article", "look at, looking at, looks at"),
    **_all("article", "it looks like, it seems that, it seems, it appears that, it looks as if"),
    **_all("article", "a, an, the, of, with, made, made of, another, only, in, on, at"),
    **_all("yes", "yes, yep, yeah, correct, indeed"),
    **_all("no", "no, nope"),
    **_all("wait", "wait, actually, hold on, oops, hmm, hm, correction, sorry, on second look"),
    **_all("take back", "that's just, it's just, that is just, it is just, that was just"),
    **_all("take back", "mixed, misread, scratch that, my mistake, that is wrong, false alarm"),
    **_all("take back", "that's wrong, i was wrong, mistook, mistaken, mixed up, confused"),
}


class Lexicon(NamedTuple):
    """What words mean where things look as one vocabulary says.

    Attributes:
        words: word or expression, its words parted by single spaces -> its meaning.
        longest: first word of expressions -> how many words the longest of them has.
    """

    words: dict[str, Meaning]
    longest: dict[str, int]


@lru_cache(maxsize=64)
def lexicon(vocabulary: Vocabulary) -> Lexicon:
    """All words, with the vocabulary's own values before everything else."""
    words: dict[str, Meaning] = {}
    if "position" in vocabulary.attributes:
        for direction in DIRECTIONS:
            if "-" in direction:
                words[direction.replace("-", " ")] = ("direction", "position", direction)
    words |= {text: meaning for text, meaning in _PLAIN.items() if text not in words}
    for (attribute, value), texts in _SYNONYMS.items():
        if value in vocabulary.values(attribute):
            words |= _all("value", texts, attribute, value)
    for attribute in ATTRIBUTES:
        for value in vocabulary.values(attribute):
            words[value.replace("-", " ")] = ("value", attribute, value)
    for text, meaning in list(words.items()):
        if meaning[:2] == ("value", "shape") and text not in SHAPE_ADJECTIVES:
            words.setdefault(text + ("es" if text.endswith("x") else "s"), meaning)
    longest: dict[str, int] = {}
    for text in words:
        first, *rest = text.split(" ")
        longest[first] = max(longest.get(first, 1), 1 + len(rest))
    return Lexicon(words, longest)
