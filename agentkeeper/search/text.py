"""Text into terms: words, identifiers and the parts of identifiers.

The same function reads documents and queries, so that whatever it does to one it does to the
other. Case, compatibility forms and Latin, Greek and Cyrillic diacritics make no difference
("Café", "CAFE"). Scripts written without spaces give overlapping pairs of characters.
"""

import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from itertools import islice

MAX_TERM_CHARS = 100
"""Longer runs of characters (encoded data, mostly) are no words and are not indexed as such."""

STOP_WORDS = frozenset(
    re.findall(
        r"\w+",
        "a an and are as at be but by can do does for from has have how i if in into is it its me"
        " my need no not of on or our please so some that the their them then there these they this"
        " to us want was we what when where which who will with you your",
    )
)
"""English words that say nothing about an agent; a query drops them if it has others."""

# A text's shape has one character for each of its own: u upper case, l other letters, d digits,
# c scripts without spaces, "-" joins words of an identifier, ":" joins identifiers, + as in C++.
_ASCII_SHAPE = str.maketrans(
    {chr(i): " " for i in range(128)}
    | {chr(i): "u" for i in range(ord("A"), ord("Z") + 1)}
    | {chr(i): "l" for i in range(ord("a"), ord("z") + 1)}
    | dict.fromkeys("0123456789", "d")
    | dict.fromkeys("-_.", "-")
    | dict.fromkeys(":/@", ":")
    | dict.fromkeys("+#", "+")
)
_UNSPACED = ((0x0E00, 0x0EFF), (0x1780, 0x17FF), (0x3040, 0x30FF), (0x3400, 0x9FFF))
"""Thai and Lao, Khmer, kana, Han."""

_COMPOUND = re.compile(r"[uldc]+(?:[-:]+[uldc]+)*\+{0,2}")
_PIECE = re.compile(r"[^:]+")
_WORD = re.compile(r"[uld]+|c+")
_PART = re.compile(r"u+(?=ul)|u?l+|u+|d+")
_DIACRITICS = re.compile("[\u0300-\u036f]")
_IDENTIFIER = re.compile(r"[^ul]")
_NUMBER = re.compile(r"\d{1,4}(?:[-:/.]\d{1,4})*(?:am|pm|st|nd|rd|th)?", re.IGNORECASE)
"""Numbers, dates and times are no identifiers inside a sentence."""
_ADDRESSED = re.compile(r"(?:^|\s)(?:ask\s+(?:the\s+)?|@)(?=\S)")
_EDGES = re.compile(r"[\s,;:!?\"'()]+|\.(?=\s|$)")

MAX_ADDRESSEES = 4
"""How many of those it says to ask a query may name."""
MAX_PHRASE_WORDS = 4
"""A name of more words is found by its words."""
MAX_QUERY_WORDS = 100
"""How far names without signs of one are looked for."""


def fold(text: str) -> str:
    """The form in which whole names are compared."""
    return _plain(text).strip().casefold()


def terms(text: str) -> tuple[list[str], int]:
    """All terms of a text, repetitions included, and its length in words.

    `sql_runner` gives itself, `sql` and `runner`; `tool:write_file` gives `write_file` as well.
    """
    plain = _plain(text)
    shape = _shape(plain)
    found: list[str] = []
    words = 0
    for match in _COMPOUND.finditer(shape):
        start, end = match.span()
        in_compound = [m.span() for m in _WORD.finditer(shape, start, end)]
        words += len(in_compound)
        if in_compound != [(start, end)]:
            found.append(plain[start:end].casefold())
            found.extend(_pieces(plain, shape, start, end))
        for begin, stop in in_compound:
            found.extend(_word(plain[begin:stop], shape[begin:stop]))
    return [term for term in found if 0 < len(term) <= MAX_TERM_CHARS], words


def query_terms(query: str) -> list[str]:
    """The distinct terms of a query, in its order, without words that say nothing."""
    distinct = list(dict.fromkeys(terms(query)[0]))
    return [term for term in distinct if term not in STOP_WORDS] or distinct


def query_identifiers(query: str) -> list[list[str]]:
    """For each token of a query that looks like an identifier: what it may name, best guess first.

    A guess is the form in which whole names are compared. Words as "GitHub" are no identifiers.
    """
    guesses: list[list[str]] = []
    for token in _plain(query).split():
        shape = _shape(token)
        match = _COMPOUND.search(shape)
        core = token[match.start() : match.end()] if match else token
        if not _IDENTIFIER.search(_shape(core)) or _NUMBER.fullmatch(core):
            continue
        spans = (m.span() for m in _PIECE.finditer(_shape(core)))
        pieces = [core[start:end] for start, end in spans]
        named = [piece for piece in pieces if _IDENTIFIER.search(_shape(piece))]
        guesses.append(list(dict.fromkeys(form.casefold() for form in (token, core, *named))))
    return guesses


def query_addressees(query: str) -> list[list[str]]:
    """For each "ask ..." and "@..." of a query: how who is asked may be named, longest first."""
    folded = fold(query)
    guesses: list[list[str]] = []
    for match in islice(_ADDRESSED.finditer(folded), MAX_ADDRESSEES):
        words = query_words(folded[match.end() : match.end() + MAX_TERM_CHARS])[:MAX_PHRASE_WORDS]
        if words and words[0] not in STOP_WORDS:
            guesses.append([" ".join(words[:count]) for count in range(len(words), 0, -1)])
    return guesses


def query_words(query: str) -> list[str]:
    """The words of a query as written, in the form in which names are compared."""
    return _EDGES.sub(" ", fold(query)).split()[:MAX_QUERY_WORDS]


def query_phrases(query: str) -> set[str]:
    """What may be a name in a query, of one word or a few, as names are compared.

    None has a word that says nothing: "help me" is not meant to be a name, most often.
    """
    words = query_words(query)
    spans = (
        words[start : start + length]
        for length in range(1, MAX_PHRASE_WORDS + 1)
        for start in range(len(words) - length + 1)
    )
    return {" ".join(span) for span in spans if STOP_WORDS.isdisjoint(span)}


def may_begin_a_name(identifier: str, *, alone: bool) -> bool:
    """Whether it looks like a part of an identifier, not like a word or a number.

    Inside a sentence one hyphen is not enough, as in "e-mail" or "follow-up".
    """
    shape = _shape(identifier)
    if " " in shape or "l" not in shape:
        return False
    joints = shape.count("-") + shape.count(":")
    return "d" in shape or "_" in identifier or joints > (0 if alone else 1)


def is_compound(term: str) -> bool:
    """Whether it is several words, joined."""
    return _WORD.fullmatch(_shape(term)) is None


def _plain(text: str) -> str:
    if text.isascii():
        return text
    bare = _DIACRITICS.sub("", unicodedata.normalize("NFKD", text))
    return unicodedata.normalize("NFC", bare)


def _shape(text: str) -> str:
    if text.isascii():
        return text.translate(_ASCII_SHAPE)
    return "".join(map(_shape_of, text))


@lru_cache(maxsize=8192)
def _shape_of(char: str) -> str:
    code = ord(char)
    if code < 128:
        return char.translate(_ASCII_SHAPE)
    if any(first <= code <= last for first, last in _UNSPACED):
        return "c" if unicodedata.category(char)[0] in "LMN" else " "
    if char.isupper():
        return "u"
    if char.isalpha() or unicodedata.category(char)[0] == "M":
        return "l"
    return "d" if char.isnumeric() else " "


def _pieces(plain: str, shape: str, start: int, end: int) -> Iterator[str]:
    """The identifiers that ":", "/" or "@" join, where they are more than a word."""
    pieces = [m.span() for m in _PIECE.finditer(shape, start, end)]
    if len(pieces) > 1:
        for begin, stop in pieces:
            if "-" in shape[begin:stop]:
                yield plain[begin:stop].casefold()


def _word(word: str, shape: str) -> Iterator[str]:
    """A word and, where case or digits divide it, its parts."""
    if shape[0] == "c":
        yield from (word[i : i + 2] for i in range(max(1, len(word) - 1)))
        return
    yield _singular(word.casefold())
    parts = [m.span() for m in _PART.finditer(shape)]
    if len(parts) > 1:
        yield from (_singular(word[start:end].casefold()) for start, end in parts)


def _singular(word: str) -> str:
    """Folds a plural or third person s, as in "fetches", "pages", "summaries".

    After the S-stemmer of Harman, "How effective is suffixing?" (JASIS 42(1), 1991), with one
    addition: where "es" follows a sibilant, the e is dropped from both forms.
    """
    if len(word) > 3 and word[-1] == "s" and word[-2] not in "siu":
        word = word[:-3] + "y" if word.endswith("ies") and len(word) > 4 else word[:-1]
    if len(word) > 3 and word.endswith(("che", "she", "sse", "xe", "ze")):
        word = word[:-1]
    return word
