"""What is embedded: of an agent one passage, of a query what it asks for.

Measured with MiniLM: the name first and the description after a colon does best; tools help only
where little else is said, as most name a means (`http_client`) and not an end; and a query that is
embedded together with "I need an agent that can" is a quarter less likely to find whom it means.
"""

import re
from functools import lru_cache

from agentkeeper.search.document import Document

MAX_CHARS = 1_600
"""About what a model reads of a text, 256 tokens; what is beyond need not travel."""
MAX_DESCRIPTION_CHARS = 800
"""So that capabilities are read too, if there are any."""
FEW_WORDS = 8
"""Agents that say less are known by their tools."""

_SEPARATORS = re.compile(r"[_\W]+")
_HUMPS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")

_AN = r"(?:(?:an?|the|any|some|my|our|your)\s+)"
_KIND = (
    r"(?:(?:good|right|best|suitable|ai|software)\s+){0,2}"
    r"(?:agents?|bots?|assistants?|experts?|specialists?|helpers?|person|people)\b"
)
_WHOEVER = r"(?:someone|somebody|anyone|anybody)\b"
_SOMEONE = rf"(?:{_AN}?{_KIND}|{_WHOEVER})"
_TO = r"(?:can|could|will|would|is\s+able\s+to|are\s+able\s+to|knows?\s+how\s+to|is\s+good\s+at)"
_THAT = (
    rf"(?:\s+(?:(?:that|who|which)(?:\s+{_TO}\b)?|{_TO}\b|able\s+to\b|capable\s+of\b|to\b|for\b"
    r"|with\b))"
)
_END = r"(?=\s*(?:[,:;.!?]|$))"
_SOMEONE_THAT = (
    rf"(?:{_SOMEONE}(?:{_THAT}|{_END})"
    rf"|(?:{_AN}{_KIND}|{_WHOEVER})(?=\s(?:on|in|of|at|about|from|\w+ing)\b))"
)
"""Not the "people" of "people analytics" or "people on the web", nor the "bot" of "a bot detector".
"""
_HELP = r"(?:\s*(?:please\s+)?(?:help|assist)(?:\s+(?:me|us))?(?:\s+(?:out|to|with|in))*\b)?"
_WE = r"(?:i|we)(?:'m|'d|\s+am|'re|\s+are|\s+would)?(?:\s+(?:really|just|urgently|also))?"
_SEEK = rf"(?:{_WE}\s+)?(?:need|want|require|like|seek(?:ing)?|(?:look|search)(?:ing)?\s+for)"
_ASK = r"(?:please\s+)?(?:find|get|give|show|recommend|suggest)(?:\s+(?:me|us))?"
_REQUEST = re.compile(
    r"\s*(?:"
    r"(?:hi|hello|hey|please)\b(?!-)"
    rf"|(?:{_SEEK}|{_ASK}|is\s+there|are\s+there|do\s+(?:we|you)\s+have|which|what)"
    rf"\s+{_SOMEONE_THAT}{_HELP}"
    rf"|{_SOMEONE}\s+(?:(?:that|who|which)(?:\s+{_TO}\b)?|{_TO}\b|to\b){_HELP}"
    rf"|who\s+(?:here\s+)?{_TO}\b{_HELP}"
    r"|(?:can|could|would|will)\s+(?:you|someone|somebody|anyone|anybody)\b"
    rf"(?:\s+please\b)?{_HELP}"
    rf"|{_WE}\s+(?:need|want|like)\s+(?:you\s+to|to|(?:some\s+)?help\s+(?:to|with|in))\b"
    r"|(?:please\s+)?(?:help|assist)\s+(?:me|us)\b(?:\s+(?:to|with|in)\b)?"
    r")(?:[\s,:!?;-]+|$)",
    re.IGNORECASE,
)
_MAX_REQUESTS = 3


def passage(document: Document) -> str:
    """The agent's name, spelled out, and what it says of itself."""
    capabilities = [f"{spelled(name)}: {text}" for name, text in document.capabilities]
    description = document.description.strip()
    if capabilities:
        description = description[:MAX_DESCRIPTION_CHARS]
    told = [description, *capabilities]
    if sum(len(part.split()) for part in told) < FEW_WORDS:
        told.append(", ".join(map(spelled, document.tools)))
    sentences = (part.rstrip(". ") for part in told)
    text = " ".join(f"{sentence}." for sentence in sentences if sentence)
    return f"{spelled(document.name)}: {text}".strip(": ")[:MAX_CHARS]


def spelled(name: str) -> str:
    """A name in words: `parseInvoice_v2` is "parse Invoice v2"."""
    return _HUMPS.sub(" ", _SEPARATORS.sub(" ", name)).strip()


@lru_cache(maxsize=256)
def wanted(query: str) -> str:
    """What a query asks for, without the words that only say that it asks.

    "I need an agent that can read receipts" is "read receipts". A query of nothing else stays.
    White space comes out as single blanks.
    """
    whole = rest = " ".join(query.split())
    for _ in range(_MAX_REQUESTS):
        match = _REQUEST.match(rest)
        if match is None:
            break
        rest = rest[match.end() :]
    return rest.strip() or whole
