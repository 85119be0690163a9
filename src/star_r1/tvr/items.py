"""The inside of an answer block as items, freed of whatever chat models wrap them in."""

import html
import json
import re
from itertools import dropwhile, islice, zip_longest
from typing import Any, Final

WRAPPING: Final = " \t\r\n\"'`´“”„‟‘’‚‛«»‹›「」『』【】〈〉《》〔〕〖〗()[]{}<>*_|$."
"""What may surround an item or one of its parts: quotes, brackets, emphasis, a closing period."""
BULLETS: Final = "-–—•*+#·‣▪▫◦●■◆◇▸►✓✔✅☑"
"""What may stand before an item, as a word of its own."""
_NOTHING: Final = re.sub("[.<>«»‹›〈〉《》‣▸►]", "", BULLETS + WRAPPING)
"""A word of these says nothing, but a period joins what stands around it, and an arrow speaks."""
_MARKS: Final = f"[{re.escape(BULLETS + WRAPPING)}]{{0,9}}"
"""Around a label or a number; any other sign there may reject what follows it."""

_PLAIN: Final[dict[int, str | None]] = {
    **{code: chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)},  # full-width ASCII
    **dict.fromkeys([0xA0, 0x1680, *range(0x2000, 0x200B), 0x202F, 0x205F, 0x3000], " "),
    **dict.fromkeys([0x0B, 0x0C, 0x85, 0x2028, 0x2029], "\n"),
    **dict.fromkeys(map(ord, "。｡"), "."),
    **dict.fromkeys(map(ord, "、､،"), ","),
    **dict.fromkeys(map(ord, "؛"), ";"),
    # Nothing to see: soft hyphens, joiners, marks of direction, variants of a glyph.
    **dict.fromkeys([0xAD, *range(0x200B, 0x2010), *range(0x202A, 0x202F), 0xFEFF], None),
    **dict.fromkeys([*range(0x2060, 0x206A), 0xFE0E, 0xFE0F], None),
}
"""Letters and punctuation of other keyboards, and spaces of every kind, as ASCII has them."""
_CHINESE_NUMBER: Final = re.compile(r"(?<=\d)、")
_ENTITY: Final = re.compile(r"&(?:#\d{1,6}|#[xX][0-9a-fA-F]{1,5}|[A-Za-z]{2,8});")
_FENCE: Final = re.compile(
    r"(?:`{3,}|~{3,}(?![\d~]))[ \t]*(?:(?i:json\w?|te?xt|plain(?:text)?|markdown|md|ya?ml|python|"
    r"py|javascript|js|csv|xml|html|latex|tex|bash|sh|output|answer)(?![\w.]))?"
)
_TAG: Final = re.compile(
    r"<\|(?:(?:begin|end)_of_(?:box|text|turn|answer)|(?:box|im|answer)_(?:start|end)|endoftext"
    r"|eot_id|eom_id|eos|end|return)\|>"
    r"|</?(?i:(br|p|div|pre|ul|ol|li|h[1-6]|box|changes?|items?)"
    r"|b|i|u|em|strong|code|tt|kbd|mark|span|font|center)[ \t]{0,9}/?>"
)
"""Known ones without attributes, which may hide or strike what they hold."""
_COMMAND: Final = re.compile(r"\\+(?:(?:begin|end)\{[A-Za-z]{1,20}\*?\}|([A-Za-z]+)|([\s\S])|$)")
_WRAPPERS: Final = re.compile(
    r"[fm]?box(?:ed)?|(?:text|math)(?:bf|it|tt|rm|sf)?|emph|underline|verb|left|right|q?quad"
)
"""Commands of LaTeX that show their argument as it is, or nothing."""
_BREAKS: Final = frozenset(("n", "r", "t", "item", "newline", "par"))
"""Those that begin something new; the first three are what JSON writes for new lines and tabs."""
_LABEL: Final = re.compile(
    rf"^(?:{_MARKS}(?:(?i:the|my|final|all|predicted|detected)[ ]){{0,3}}(?i:answers?|changes?|"
    r"predictions?|transformations?|items?|results?|output|答案|回答|变化|變化)"
    r"(?:[ ](?i:is|are))?(?:[ ]?#?\d{1,2})?[ *_`\"']{0,6}[:=]){1,4}"
)
"""Such as ``**Final answer:**``, ``Change 1:``."""
_NUMBER: Final = re.compile(
    rf"{_MARKS}(?:(?:\d{{1,3}}|[A-Ea-e]){_MARKS}[.):\]]|\[[xX✓✔]\]|[①-⑳]|\d\u20e3){_MARKS}"
)
"""Of a list, or a ticked box; only before what begins with a digit, as all changes do."""
_ATTACHED: Final = re.compile(rf"^{_MARKS}(?:\d{{1,3}}[):\]]|[①-⑳]|\d\u20e3)(?={_MARKS}[0-9])")
_UNTICKED: Final = re.compile(r"[\[(][\s_–—-]{0,9}[\])]")
"""A box that is empty, so what stands beside it is not chosen."""

_JSON: Final = json.JSONDecoder(
    strict=False, parse_int=str, parse_float=str, parse_constant=str, object_pairs_hook=tuple
)
"""Objects as tuples of pairs, since names may be repeated; numbers as written."""
_STARTS: Final = re.compile(r'[\[{"]')
_MOST_STARTS: Final = 6
"""What looks like JSON is tried from so many characters, which may be wrapping."""
_MOST_LEVELS: Final = 8
_MOST_ENTITIES: Final = 3
_INDEX: Final = ("index", "object_index", "object_id", "object", "idx", "id")
_ATTRIBUTE: Final = ("attribute", "attr", "property")
_VALUE: Final = ("value", "new_value", "new", "to", "after")
_OLD_VALUE: Final = ("from", "before", "old", "old_value")
_CONTAINER: Final = re.compile(
    r"(?:(?:final|predicted|detected|all)[ _-]?)?(?:answers?|changes?|predictions?|differences?"
    r"|transformations?|items?|results?|outputs?)|final|response|objects|list|data"
    r"|答案|回答|变化|變化"
)
"""Names in an object that say no more than that changes stand there."""
_ASIDE: Final = re.compile(
    r"reason(?:ing)?|explanation|thoughts?|thinking|analysis|confidence|comments?|notes?"
)
"""Names in an object under which no change stands; all other names are part of a wrong item."""
_LONGEST_PATH: Final = 64


def read_items(text: str) -> list[str]:
    """Split an answer into its items, right or wrong. Linear in the length of ``text``.

    New lines, commas and semicolons separate items, and so do spaces where every word has two or
    three dots. What is no more than wrapping is taken off:

    - Markdown: fences and their language, emphasis, bullets, numbers of a list;
    - JSON, or what Python writes: lists of items, lists or objects of index, attribute and value,
      objects by index, all of them also under names such as ``changes``;
    - LaTeX: ``\\boxed``, ``\\text`` and their like;
    - HTML: entities, and line breaks, lists and emphasis without attributes;
    - special tokens: ``<|begin_of_box|>``; a label: ``Final answer:``;
    - punctuation, digits and spaces of other keyboards, characters that do not show.

    Nothing else is: words and signs beside changes, an empty box to tick, and other names in JSON
    make a wrong item, since they may say that a change is none.

    >>> read_items('```json\\n{"changes": ["2.color.cyan", "object 3"]}\\n```')
    ['2.color.cyan', 'object 3']
    >>> read_items("1. **2.color.cyan**，3.shape.cube")
    ['**2.color.cyan**', '3.shape.cube']
    """
    return _read(text, _MOST_LEVELS)


def _read(text: str, levels: int) -> list[str]:
    """The items of a text that may hold texts within texts, so many levels of them."""
    for _ in range(_MOST_ENTITIES):
        text = _unmarked(text)
        found = _from_json(text, levels)
        if found is not None:
            return found
        text, count = _ENTITY.subn(lambda found: html.unescape(found[0]), text)
        if not count:
            break
    items: list[str] = []
    for line in filter(str.strip, re.split(r"[\r\n]", text)):
        found = _from_json(line, levels)
        if found is not None:
            items += found
            continue
        for part in _unescaped(line).split("\n"):
            for segment in filter(str.strip, re.split("[,;]", part)):
                items += _from_segment(segment)
    return items


def _unmarked(text: str) -> str:
    """Without fences, tags and tokens, in plain letters and punctuation."""
    if not text.isascii() or "\x0b" in text or "\x0c" in text:
        text = _CHINESE_NUMBER.sub(") ", text).translate(_PLAIN)
    if "```" in text or "~~~" in text:
        text = _FENCE.sub("\n", text)
    if "<" in text:
        text = _TAG.sub(lambda found: "\n" if found[1] or found[0][1] == "|" else " ", text)
    return text


def _unescaped(text: str) -> str:
    """Without backslashes: those of LaTeX, of Markdown and of texts within texts."""
    return _COMMAND.sub(_plain_command, text) if "\\" in text else text


def _plain_command(found: re.Match[str]) -> str:
    name, sign = found[1], found[2]
    if name is not None:
        return " " if _WRAPPERS.fullmatch(name) else "\n" if name in _BREAKS else found[0]
    if sign is None or sign.isspace():
        return "\n"
    return found[0] if sign.isalnum() else " " if sign in ",;:!" else sign


def _from_segment(segment: str) -> list[str]:
    """The items of what stands between two separators: usually one."""
    if segment.strip(BULLETS + WRAPPING):
        segment = _LABEL.sub("", _UNTICKED.sub("☐", segment))
    words = list(dropwhile(lambda word: not word.strip(BULLETS + WRAPPING), segment.split()))
    words = [word for word in words if word.strip(_NOTHING)]
    if words and words[0].lower() in ("and", "&"):
        del words[0]
    if len(words) == 1:
        word = _ATTACHED.sub("", words[0])
        return [word] if word.strip(WRAPPING) else []
    words = [
        _ATTACHED.sub("", word)
        for word, after in zip_longest(words, words[1:], fillvalue="")
        if not (_NUMBER.fullmatch(word) and (_begins_item(after) or after.lower() == "none"))
    ]
    if all(2 <= word.strip(WRAPPING).count(".") <= 3 for word in words):
        return words
    item = " ".join(words)
    return [item] if item.strip(WRAPPING) else []


def _begins_item(word: str) -> bool:
    bare = word.lstrip(WRAPPING)
    return "0" <= bare[:1] <= "9"


def _from_json(text: str, levels: int) -> list[str] | None:
    """The items of a text that is JSON but for wrapping; None where it is not."""
    if not levels or not (_STARTS.search(text) or "(" in text):
        return None
    repaired = re.sub(r",\s*(?=[\]})])", "", text)
    repaired = re.sub(r"\}\s*(?=\{)", "},", repaired).replace("(", "[").replace(")", "]")
    if '"' not in repaired:
        repaired = repaired.replace("'", '"')
    for candidate in dict.fromkeys((text, repaired, f"[{repaired}]")):
        for start in islice(_STARTS.finditer(candidate), _MOST_STARTS):
            if not _may_precede(candidate[: start.start()]):
                break
            try:
                value, end = _JSON.raw_decode(candidate, start.start())
            except (ValueError, RecursionError):
                continue
            if _may_follow(candidate[end:]):
                return _flattened(value, levels - 1)
    return None


def _may_precede(text: str) -> bool:
    """Whether no item stands before JSON: nothing but wrapping, a label or a number of a list."""
    if len(text.strip(WRAPPING + BULLETS)) > _LONGEST_PATH or _UNTICKED.search(text):
        return False
    text = _LABEL.sub("", _unescaped(text)).rstrip(" \t\r\n[{(\"'")
    return not text.strip(WRAPPING + BULLETS) or bool(_NUMBER.fullmatch(text))


def _may_follow(text: str) -> bool:
    """Whether no item stands behind JSON: nothing but wrapping."""
    text = text.strip(WRAPPING + BULLETS)
    return len(text) <= _LONGEST_PATH and not _unescaped(text).strip(WRAPPING + BULLETS)


def _flattened(value: Any, levels: int) -> list[str]:
    """The items in a JSON value, in order, ``levels`` of texts within its texts."""
    found: list[str] = []
    left = [("", value)]
    while left:
        path, value = left.pop()
        if isinstance(value, list):
            triplet = not path and _is_triplet(value)
            left += (
                [(".".join(value[:2]), value[2])] if triplet else [(path, v) for v in value[::-1]]
            )
        elif isinstance(value, tuple):
            left += _members(path, value)[::-1]
        elif isinstance(value, str) and not path:
            found += _read(value, levels)
        else:
            text = "none" if value is None else _bare(str(value))
            found.append(text if not path or text.startswith(f"{path}.") else f"{path}.{text}")
    return found


def _members(path: str, pairs: tuple[tuple[str, Any], ...]) -> list[tuple[str, Any]]:
    """What stands in an object, each with the index and attribute that its names give."""
    left = [(_bare(name.lower()), value) for name, value in pairs]
    left = [(name, value) for name, value in left if not _ASIDE.fullmatch(name)]
    members: list[tuple[str, Any]] = []
    if not path:
        number = _taken(left, ("id",)) if _is_entry(left) else None
        path = "" if number else _joined("", _taken(left, _INDEX) or "")
        if path and not left:
            return [("index", path)]
    if path:
        left = [(name, value) for name, value in left if name not in _OLD_VALUE]
        attribute, new = _taken(left, _ATTRIBUTE), _taken(left, _VALUE)
        if attribute or new:
            members.append((f"{path}.{attribute}", new))
    for name, value in left:
        held = _CONTAINER.fullmatch(name) and (not path or path.isdecimal())
        numbered = not path and name.isdecimal() and _is_change(value)
        members.append((path if held or numbered else _joined(path, name), value))
    return members


def _is_entry(pairs: list[tuple[str, Any]]) -> bool:
    """Whether an object is one of a list by number: ``{"id": 1, "change": "2.color.cyan"}``."""
    (name, number), *rest = pairs if len(pairs) == 2 else [("", None)]
    return name == "id" and str(number).isdecimal() and all(_is_change(one) for _, one in rest)


def _joined(path: str, name: str) -> str:
    """A path with one more name; no path that is cut short, since its beginning may be right."""
    path = f"{path}.{name}" if path else name
    return path if len(path) <= _LONGEST_PATH else "?"


def _taken(pairs: list[tuple[str, Any]], names: tuple[str, ...]) -> str | None:
    """The text under the first of these names, which leaves the pairs; None without one."""
    for place, (name, value) in enumerate(pairs):
        if name in names and isinstance(value, str):
            del pairs[place]
            return _bare(value)
    return None


def _bare(text: str) -> str:
    """A name or value without wrapping, but never empty: what has no text is not right."""
    return text.strip(WRAPPING) or "?"


def _is_triplet(value: list[Any]) -> bool:
    """Whether a list is index, attribute and value."""
    if len(value) != 3 or not all(isinstance(part, str) for part in value):
        return False
    return value[0].strip().isdecimal() and not _begins_item(value[1])


def _is_change(value: Any) -> bool:
    """Whether a text has an index of its own, so that a number before it is that of a list."""
    return isinstance(value, str) and _begins_item(value) and value.count(".") >= 2
