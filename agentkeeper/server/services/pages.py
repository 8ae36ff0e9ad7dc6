"""Lists a page at a time, with turns for others while one is made.

A page token is the position of the last entry before it: its key, or its number in order of
arrival. What comes and goes meanwhile shifts nothing.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, MutableSequence, Sequence
from itertools import islice
from typing import Final, Protocol, TypeVar

from google.protobuf.message import Message

from agentkeeper.core import limits
from agentkeeper.server import validation as v
from agentkeeper.server.errors import CallError, bad_field, too_large
from agentkeeper.server.turns import Turns

ENTRY_BYTES: Final = 8
"""What an entry of a list takes beside itself, at most."""
SLICE: Final = 100
"""Records that are looked at before others may get a turn."""
COPIES: Final = 8
"""Lists that go through a copy of a table at a time; others wait. Each holds a pointer a record."""


class InOrder(Protocol):
    """A record with its number in order of arrival."""

    @property
    def order(self) -> int:
        """Rises with every record of its table."""
        ...


OrderedT = TypeVar("OrderedT", bound=InOrder)
RecordT = TypeVar("RecordT")
MessageT = TypeVar("MessageT", bound=Message)


def copying() -> asyncio.Semaphore:
    """What those share that go through copies of one table."""
    return asyncio.Semaphore(COPIES)


def limit_of(limit: int) -> int:
    """The validated `limit` of a list that is always given in pages."""
    return v.number(limit, "limit", 0, limits.LIST_LIMIT_MAX) or limits.LIST_LIMIT_DEFAULT


def order_in(token: str) -> int:
    """The position in a page token of a list by order of arrival."""
    if not token:
        return 0
    if not (token.isascii() and token.isdigit() and len(token) <= limits.PAGE_TOKEN_BYTES):
        raise _no_token()
    return int(token)


def key_in(token: str, prefix: str, max_bytes: int) -> str:
    """The position in a page token of a list by key; empty for the first page."""
    if not token.startswith(prefix) and token:
        raise _no_token()
    return v.line(token, "page_token", max_bytes, empty=True)


def arrived_after(records: Sequence[OrderedT], order: int) -> Iterator[OrderedT]:
    """Those behind a position, of records in order of arrival."""
    return islice(records, bisect_right(records, order, key=lambda record: record.order), None)


async def fill(
    page: MutableSequence[MessageT],
    found: Iterable[RecordT],
    show: Callable[[RecordT], MessageT | None],
    limit: int,
    turns: Turns,
) -> RecordT | None:
    """Put into a page what `show` makes of the records; those it makes None of are left out.

    Returns the last one in the page if there are more for another, else None. With `limit` 0
    all must fit. Raises `CallError` when they don't.
    """
    last: RecordT | None = None
    size_bytes = 0
    for looked_at, record in enumerate(found):
        if looked_at % SLICE == 0:
            await turns.take()
        message = show(record)
        if message is None:
            continue
        size_bytes += message.ByteSize() + ENTRY_BYTES
        full = size_bytes > limits.RESPONSE_BYTES
        if full and not limit:
            raise too_large("ask for pages with limit and page_token")
        if last is not None and limit and (full or len(page) == limit):
            return last
        page.append(message)
        last = record
        await turns.take()
    return None


def _no_token() -> CallError:
    return bad_field("page_token", "must be the next_page_token of an earlier answer")
