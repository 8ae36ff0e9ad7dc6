"""What operators do to the cluster itself: move its leader, save its state to a file.

Beside `core`, for the faces of the SDK. Runs on the I/O thread's loop only.
"""

from __future__ import annotations

import asyncio
import math
import os
from collections.abc import AsyncIterator, Callable
from typing import TypeVar

import grpc

from agentkeeper import errors
from agentkeeper._pb import agentkeeper_pb2 as pb
from agentkeeper.client import methods, retry
from agentkeeper.client.caller import Caller, WaitOver
from agentkeeper.client.retry import Verdict
from agentkeeper.client.snapshot_file import DamagedSnapshotError, SnapshotFile
from agentkeeper.client.transport import EventStream, Failure
from agentkeeper.types import LeaderMoved, SnapshotSaved

T = TypeVar("T")

MOVE_S = 10.0  # that a replica may take to hand leadership over
BREAKS = 5  # of a snapshot under way, after which it is given up


class Cluster:
    """Operations on the replicas themselves rather than on what they keep."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    async def move_leader(self, to: str, timeout_s: float) -> LeaderMoved:
        """Have another replica lead; without `to`, whichever is furthest."""
        request = pb.MoveLeaderRequest(to_node_id=to)
        method = methods.MOVE_LEADER if to else methods.MOVE_LEADER_AWAY
        hold_s = min(MOVE_S, timeout_s / 2)
        try:
            answer = await self._caller.call(method, request, timeout_s, hold_s=hold_s)
        except WaitOver:
            raise errors.OutcomeUnknown(
                "move_leader: no answer in time", grpc.StatusCode.DEADLINE_EXCEEDED
            ) from None
        return LeaderMoved(answer.leader_node_id, answer.term)

    async def save_snapshot(
        self, path: str | os.PathLike[str], timeout_s: float, silence_s: float, *, stale: bool
    ) -> SnapshotSaved:
        """Write the whole state to a file. A stream that is silent for `silence_s` has broken.

        Without a limit of time, nobody's beginning to send it is waited for as long as that.
        `stale`: the state of any replica will do, as it has it.
        """
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + timeout_s
        begun_by_s = _begun_by(deadline_s, silence_s)
        endpoint = why = ""
        breaks = full = 0
        while breaks < BREAKS:
            try:
                endpoint, stream = await self._caller.open_stream(
                    methods.SAVE_SNAPSHOT,
                    pb.SaveSnapshotRequest(),
                    begun_by_s - loop.time(),
                    avoid=(endpoint,) if endpoint else (),
                    stale=stale,
                )
            except (errors.Unavailable, errors.Overloaded):
                if not full:
                    raise
                raise _no_room(why) from None
            try:
                async with asyncio.timeout_at(_finite(deadline_s)):
                    return await _receive(stream, path, silence_s)
            except TimeoutError:
                if full:  # all that was heard is that there was no room
                    raise _no_room(why) from None
                raise errors.Unavailable(
                    "save_snapshot: not done in time", grpc.StatusCode.DEADLINE_EXCEEDED
                ) from None
            except DamagedSnapshotError as error:
                why, has_room = str(error), True
            except Failure as failure:
                self._caller.note(endpoint, failure)
                if retry.judge(failure) is Verdict.REFUSED:
                    raise retry.refusal(failure) from None
                why, has_room = failure.details, failure.reason != retry.OVERLOADED
            finally:
                stream.cancel()
            if has_room:
                breaks, full, begun_by_s = breaks + 1, 0, _begun_by(deadline_s, silence_s)
            else:
                await asyncio.sleep(min(retry.pause_s(full), max(0.0, begun_by_s - loop.time())))
                full += 1
        raise errors.Unavailable(f"save_snapshot: it broke off {BREAKS} times; last: {why}")


def _no_room(why: str) -> errors.Overloaded:
    details = f"save_snapshot: no replica had room for it in time; last: {why}"
    return errors.Overloaded(details, reason=retry.OVERLOADED)


def _begun_by(deadline_s: float, silence_s: float) -> float:
    """When a replica must have begun to send, on the loop's clock."""
    if deadline_s < math.inf:
        return deadline_s
    return asyncio.get_running_loop().time() + silence_s


async def _receive(
    stream: EventStream[pb.SnapshotPiece], path: str | os.PathLike[str], silence_s: float
) -> SnapshotSaved:
    """Write what a stream sends to `path`. Raises `Failure`, DamagedSnapshotError, OSError."""
    log_index = 0
    pieces = aiter(stream)
    file = SnapshotFile(path)
    try:
        await _in_thread(file.begin)
        while (piece := await _next(pieces, silence_s)) is not None:
            log_index = log_index or piece.log_index
            data = piece.data
            await _in_thread(lambda: file.write(data))  # noqa: B023 - done before the next
        size_bytes = await _in_thread(file.keep)
    finally:
        await _in_thread(file.drop)
    return SnapshotSaved(os.fspath(path), log_index, size_bytes)


async def _next(
    pieces: AsyncIterator[pb.SnapshotPiece], silence_s: float
) -> pb.SnapshotPiece | None:
    """The next piece; None at the end. Raises `Failure`."""
    try:
        async with asyncio.timeout(_finite(silence_s)):
            return await anext(pieces, None)
    except TimeoutError:
        raise Failure(
            grpc.StatusCode.DEADLINE_EXCEEDED, "the stream fell silent", unreachable=True
        ) from None


async def _in_thread(work: Callable[[], T]) -> T:
    """Do what blocks; when cancelled, only once it is done, as it can't be broken off."""
    working = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(working)
    except asyncio.CancelledError:
        await asyncio.wait((working,))
        raise


def _finite(seconds: float) -> float | None:
    return None if seconds == math.inf else seconds
