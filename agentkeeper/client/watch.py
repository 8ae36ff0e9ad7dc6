"""One subscription's events in order and once, whichever replica happens to serve it."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, Callable
from typing import Any

import grpc

from agentkeeper import errors
from agentkeeper._pb import agentkeeper_pb2 as pb
from agentkeeper.client import convert, retry
from agentkeeper.client.caller import Caller
from agentkeeper.client.methods import Method
from agentkeeper.client.retry import Verdict
from agentkeeper.client.transport import EventStream, Failure
from agentkeeper.types import WatchEvent, WatchGap

AFTER_FIELD = "after_sequence"
SEQUENCE_KEY = "agentkeeper-sequence"

# Refusals that end a stream and not the subscription: too slow, or behind what is kept.
_RESUMABLE = frozenset({grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.OUT_OF_RANGE})

MakeRequest = Callable[[int | None], Any]


class EventFeed:
    """The events of one subscription.

    `open` it, then iterate: it resumes by itself after the last event it has yielded, for ever.
    A `WatchGap` is yielded where events are no longer kept.
    """

    def __init__(
        self,
        caller: Caller,
        method: Method[Any, pb.Event],
        make_request: MakeRequest,
        after: int | None,
        *,
        begins_with_state: bool = False,
    ) -> None:
        """`make_request` builds the request that resumes after a sequence number, or begins.

        `begins_with_state`: a stream that begins anew tells the present state first, which makes
        up for events that are no longer kept.
        """
        self._caller = caller
        self._method = method
        self._make_request = make_request
        self._begins_with_state = begins_with_state
        self._position = after
        self._last_sequence = after or 0
        self._endpoint = ""
        self._stream: EventStream[pb.Event] | None = None
        self._gap: WatchGap | None = None

    async def open(self, timeout_s: float, *, gap_is_error: bool) -> None:
        """Subscribe; everything that happens after the return will be yielded.

        Raises Compacted, if `gap_is_error`, when the events asked for are no longer kept, and
        what `Caller.open_stream` raises.
        """
        try:
            await self._subscribe(timeout_s)
        except errors.Compacted as error:
            if gap_is_error or not self._skip_to(error.oldest):
                raise
            await self._subscribe(timeout_s)

    async def items(self) -> AsyncGenerator[WatchEvent | WatchGap, None]:
        """Yield events and gaps. Raises the refusal that ends the subscription, if one does."""
        fruitless = 0
        while True:
            if self._gap is not None:
                gap, self._gap = self._gap, None
                yield gap
            assert self._stream is not None, "open() comes first"
            try:
                async for message in self._stream:
                    fruitless = 0
                    if message.sequence_number > self._last_sequence:
                        self._last_sequence = message.sequence_number
                        self._position = max(self._position or 0, message.sequence_number)
                        if message.topic:  # else a progress mark
                            yield convert.event_from(message)
            except Failure as failure:
                self._caller.note(self._endpoint, failure)
                if retry.judge(failure) is Verdict.REFUSED and failure.code not in _RESUMABLE:
                    raise retry.refusal(failure) from None
            finally:
                self._stream.cancel()
            if fruitless:
                await asyncio.sleep(retry.pause_s(fruitless))
            fruitless += 1
            await self._resume()

    def cancel(self) -> None:
        """End the live stream, if any."""
        if self._stream is not None:
            self._stream.cancel()

    async def _resume(self) -> None:
        attempts = 0
        while True:
            try:
                return await self._subscribe(math.inf)
            except errors.Compacted as error:
                if not self._skip_to(error.oldest):
                    raise
            except errors.InvalidArgument as error:
                if error.field != AFTER_FIELD or not self._position:
                    raise
                # It has never been there: the daemon has lost its memory, and counts anew.
                self._gap = WatchGap(self._position, 1)
                self._position = None if self._begins_with_state else 0
                self._last_sequence = 0
            except errors.Overloaded:
                await asyncio.sleep(retry.pause_s(attempts))
                attempts += 1

    async def _subscribe(self, timeout_s: float) -> None:
        request = self._make_request(self._position)
        self._endpoint, self._stream = await self._caller.open_stream(
            self._method, request, timeout_s
        )
        current = self._stream.headers.get(SEQUENCE_KEY, "")
        if self._position is None and current.isdigit():
            # Known from the start, a place to resume at even if no event ever comes.
            self._position = int(current)

    def _skip_to(self, oldest: int) -> bool:
        """Note that events before `oldest` are gone; False if that makes no sense."""
        after = self._position or 0
        if oldest <= after + 1:
            return False
        self._gap = WatchGap(self._gap.after if self._gap else after, oldest)
        self._position = None if self._begins_with_state else oldest - 1
        return True
