"""Keeps what is secret about an endpoint out of all that is stored or printed."""

import base64
import json
import re
from collections.abc import Iterable, Iterator
from typing import Final
from urllib.parse import quote, quote_plus, unquote, urlsplit

MASK: Final = "***"

_SURE: Final = 8
"""A secret of so many characters is masked wherever it stands, a shorter one as a whole word."""
_PIECE: Final = 12
"""So many characters of a secret in a row are as good as it: who repeats it may cut it off."""
_EDGE: Final = r"[A-Za-z0-9_-]"


class Masking:
    """Replaces secrets in texts by ``***``, however they are written down there.

    As they are, percent-encoded, in base64 (as in the headers of ``Basic`` and ``Bearer``), or as
    JSON has them; long ones also where only a part of them is repeated.
    """

    def __init__(self, key: str, base_url: str) -> None:
        """``key``: empty for none. Of the URL user, password and query are secret.

        >>> masking = Masking("sk-0123456789", "https://me:pass@host/v1?token=t0ken")
        >>> masking.message("no key sk-0123456789, Basic bWU6cGFzcw==, ?token=t0ken")
        'no key ***, Basic ***, ?***'
        """
        user_info, query = _secrets_of(base_url)
        forms = {form for secret in (key, *user_info, *query) for form in _forms(secret)}
        # The longest first, since one may be a part of another.
        self._forms = sorted(forms, key=len, reverse=True)
        self._exact = _any_of(self._forms)
        # In what a model says, a word may be just a word.
        self._told = _any_of(
            form for form in self._forms if len(form) >= _SURE and not re.fullmatch("[a-z]+", form)
        )

    def message(self, text: str) -> str:
        """An endpoint's or a library's words on what went wrong."""
        return self._pieces(self._exact.sub(MASK, text))

    def completion(self, text: str) -> str:
        """What a model said; short words, which a text may well hold, stay in it."""
        # To look for each by itself is a hundred times as fast, and they are hardly ever there.
        return self._told.sub(MASK, text) if any(form in text for form in self._forms) else text

    def _pieces(self, text: str) -> str:
        """Without parts of secrets, such as the beginning of one that was cut off."""

        def mask(match: re.Match[str]) -> str:
            piece = match[0].strip(".")
            known = len(piece) >= _PIECE and any(piece in form for form in self._forms)
            return MASK if known else match[0]

        return re.sub(rf"[A-Za-z0-9+/_.~-]{{{_PIECE},}}", mask, text)


def without_secrets(url: str) -> str:
    """An address without user, password, query and fragment; also where it is none.

    >>> without_secrets("https://me:pass@host:1/v1/?token=t")
    'https://host:1/v1'
    """
    plain = re.split("[?#]", url, maxsplit=1)[0]
    scheme, mark, rest = plain.rpartition("//")
    host, slash, path = rest.partition("/")
    return f"{scheme}{mark}{host.rpartition('@')[2]}" + f"{slash}{path}".rstrip("/")


def _secrets_of(url: str) -> tuple[list[str], list[str]]:
    """User, password and both of a URL; its query as a whole and each value in it."""
    parts = urlsplit(url)
    user_info = parts.netloc.rpartition("@")[0]
    found = [user_info, *user_info.split(":", 1)] if user_info else []
    values = [pair.partition("=")[2] for pair in parts.query.split("&")]
    return found, [parts.query, *values, parts.fragment]


def _forms(secret: str) -> Iterator[str]:
    """How a secret may be written down."""
    if not secret:
        return
    for plain in {secret, unquote(secret)}:
        yield from (plain, quote(plain, safe=""), quote_plus(plain), quote(plain))
        yield json.dumps(plain)[1:-1]
        for whole in (plain, f"Bearer {plain}", f":{plain}", f"api:{plain}"):
            code = base64.b64encode(whole.encode()).decode()
            for written in (code, code.replace("+", "-").replace("/", "_")):
                yield from (written, written.rstrip("="), quote(written, safe=""))


def _any_of(forms: Iterable[str]) -> re.Pattern[str]:
    words = []
    for form in forms:
        word = re.escape(form)
        words.append(word if len(form) >= _SURE else f"(?<!{_EDGE}){word}(?!{_EDGE})")
    return re.compile("|".join(words) or "(?!)")
