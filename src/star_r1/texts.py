"""Other people's text, made harmless for a terminal, a log or a sheet."""

from typing import Final

LONGEST: Final = 8000
"""Characters of a message: a hostile file must not fill a log."""
_FORMULA: Final = tuple("=+-@\t\r\n＝＋－＠")
"""What spreadsheets take for the start of a formula."""


def harmless(text: str, longest: int = LONGEST) -> str:
    r"""A text without what a terminal obeys, on one line, cut where it is long.

    Control characters (escape codes and line ends among them), marks that turn the direction of
    writing, lone surrogates and what else has no shape become visible escapes.

    >>> print(harmless("red\x1b[2J, left\u202eright"))
    red\x1b[2J, left\u202eright
    >>> harmless("abcdef", longest=3)
    'abc...'
    """
    shown = text if len(text) <= longest else text[:longest] + "..."
    if shown.isprintable():
        return shown
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in shown
    )


def sheet_cell(text: str) -> str:
    """A text as a cell of CSV, which no spreadsheet takes for a formula.

    Source: OWASP, CSV Injection.

    >>> sheet_cell("=1+1"), sheet_cell("star")
    ("'=1+1", 'star')
    """
    return ("'" if text.startswith(_FORMULA) else "") + harmless(text)
