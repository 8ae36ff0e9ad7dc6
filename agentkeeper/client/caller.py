"""Makes one call out of attempts: picks endpoints, retries under one number, gives up in time."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field
from typing import Any, TypeVar

import grpc

from agentkeeper import errors
from agentkeeper._pb import agentkeeper_pb2 as pb
from agentkeeper.client import methods, retry
from agentkeeper.client.endpoints import Endpoints
from agentkeeper.client.methods import Method, RequestT, ResponseT
from agentkeeper.client.retry import Verdict
from agentkeeper.client.sessions import DEFAULT_WINDOW, Session, Sessions, Ticket
from agentkeeper.client.transport import (
    CONSISTENCY_KEY,
    STALE,
    EventStream,
    Failure,
    Metadata,
    Transport,
)

CLOSE_TIMEOUT_S = 1.0
MAX_REQUEST_BYTES = 4_194_304 - 1_024  # the daemon's bound for a frame, less what is around it
EARLY_S = 1e-6  # by which a timer may be early: what is left then is nothing
LONGEST_S = 1e9  # stands for "for ever" where infinity is not understood
_UNIMPLEMENTED = grpc.StatusCode.UNIMPLEMENTED

AnswerT = TypeVar("AnswerT")
AnyMethod = Method[Any, Any]
Attempt = Callable[[str, Metadata, float], Awaitable[AnswerT]]


class WaitOver(Exception):  # noqa: N818 - never seen by users
    """The time is over for which the server was asked to wait; the retry was withdrawn."""


@dataclass(slots=True)
class _Trial:
    """How one call has fared so far."""

    loop: asyncio.AbstractEventLoop
    deadline: float
    hold_s: float
    hold_deadline: float
    write: bool
    """It changes something and is answered as soon as that is done."""
    attempts: int = 0
    tried: set[str] = field(default_factory=set)
    ignorant: dict[str, Failure] = field(default_factory=dict)
    """Endpoints that do not know the method: while a cluster is upgraded, others may."""
    rounds: int = 0
    maybe_done: bool = False
    last: Failure | None = None

    def remaining_s(self) -> float:
        left_s = self.deadline - self.loop.time()
        return left_s if left_s > EARLY_S else 0.0

    def hold_over(self) -> bool:
        return self.loop.time() >= self.hold_deadline


class Caller:
    """Sends calls so that a replica that dies, hangs or can't serve is left for another one."""

    def __init__(self, transport: Transport, endpoints: Endpoints) -> None:
        self.transport = transport
        self.endpoints = endpoints
        transport.on_leader = endpoints.hint
        self._sessions = Sessions(self._open_session, self._close_session)
        self._background: set[asyncio.Task[None]] = set()

    async def call(
        self,
        method: Method[RequestT, ResponseT],
        request: RequestT,
        timeout_s: float,
        *,
        hold_s: float = 0.0,
    ) -> ResponseT:
        """Return the answer to `request`, trying for `timeout_s` (`math.inf`: for ever).

        `hold_s` is how long the server may rightly hold back its answer, over all attempts; a retry
        that gets no answer by then raises WaitOver. Otherwise raises the errors of
        `agentkeeper.errors`.
        """

        size = request.ByteSize()
        if size > MAX_REQUEST_BYTES:
            raise errors.InvalidArgument(
                f"{method.name}: the request has {size} bytes, {MAX_REQUEST_BYTES} are allowed"
            )

        async def attempt(endpoint: str, metadata: Metadata, attempt_s: float) -> ResponseT:
            return await self.transport.call(endpoint, method, request, metadata, attempt_s)

        return await self._until_answered(method, timeout_s, hold_s, attempt)

    async def open_stream(
        self,
        method: Method[RequestT, ResponseT],
        request: RequestT,
        timeout_s: float,
        avoid: Collection[str] = (),
        *,
        stale: bool = False,
    ) -> tuple[str, EventStream[ResponseT]]:
        """Return a live stream and the endpoint that serves it. Raises as `call` does.

        The endpoints in `avoid` count as tried: they come last, after a pause. `stale`: what a
        replica has is good enough, whether or not it can tell that it is the latest.
        """
        consistency = {CONSISTENCY_KEY: STALE} if stale else {}

        async def attempt(
            endpoint: str, metadata: Metadata, attempt_s: float
        ) -> tuple[str, EventStream[ResponseT]]:
            metadata = {**metadata, **consistency}
            stream = await self.transport.stream(endpoint, method, request, metadata, attempt_s)
            return endpoint, stream

        return await self._until_answered(method, timeout_s, 0.0, attempt, avoid)

    async def close(self) -> None:
        """Close the sessions, as far as that is quick, and the transport."""
        sessions = self._sessions.take_all()
        for session in sessions:
            self._close_session(session)
        if self._background:
            await asyncio.wait(self._background, timeout=CLOSE_TIMEOUT_S)
        await self.transport.close()

    async def _until_answered(
        self,
        method: AnyMethod,
        timeout_s: float,
        hold_s: float,
        attempt: Attempt[AnswerT],
        avoid: Collection[str] = (),
    ) -> AnswerT:
        loop = asyncio.get_running_loop()
        now = loop.time()
        write = method.numbered and hold_s <= 0
        trial = _Trial(loop, now + timeout_s, hold_s, now + hold_s, write, tried=set(avoid))
        ticket: Ticket | None = None
        try:
            while True:
                if method.numbered and ticket is None:
                    ticket = self._sessions.ticket_at_once() or await self._ticket(method, trial)
                endpoint = await self._next_endpoint(method, trial)
                metadata = ticket.metadata() if ticket else {}
                attempt_s = self._attempt_s(trial)
                trial.attempts += 1
                began = self.endpoints.clock()
                try:
                    answer = await attempt(endpoint, metadata, attempt_s)
                except Failure as failure:
                    verdict = self._weigh(method, endpoint, failure, trial)
                    if ticket and verdict in {Verdict.NEW_NUMBER, Verdict.NEW_SESSION}:
                        if verdict is Verdict.NEW_SESSION:
                            self._sessions.expired(ticket.session)
                        self._sessions.finish(ticket)
                        ticket = None
                else:
                    if write:
                        # A retry may find its answer ready: it says nothing about the next write.
                        took_s = self.endpoints.clock() - began if trial.attempts == 1 else None
                        self.endpoints.wrote(endpoint, trial.tried, took_s)
                    else:
                        self.endpoints.worked(endpoint)
                    return answer
        finally:
            if ticket is not None:
                self._sessions.finish(ticket)

    async def _next_endpoint(self, method: AnyMethod, trial: _Trial) -> str:
        while True:
            if trial.remaining_s() <= 0:
                raise retry.given_up(method, trial.last, trial.maybe_done, "no answer in time")
            endpoint = self.endpoints.pick(trial.tried, write=trial.write)
            if endpoint is not None:
                return endpoint
            if trial.ignorant and not self._others_may_know(trial):
                ignorance = next(iter(trial.ignorant.values()))
                if trial.maybe_done and method.mutates:
                    raise retry.given_up(method, ignorance, True, "the outcome can't be known")
                raise retry.refusal(ignorance)
            await asyncio.sleep(min(retry.pause_s(trial.rounds), trial.remaining_s()))
            trial.rounds += 1
            trial.tried = set(trial.ignorant)

    async def _ticket(self, method: AnyMethod, trial: _Trial) -> Ticket:
        try:
            return await self._sessions.ticket(min(trial.remaining_s(), LONGEST_S))
        except (TimeoutError, errors.Unavailable, errors.Overloaded) as error:
            if isinstance(error, errors.Overloaded) and not trial.maybe_done:
                raise
            said = "" if isinstance(error, TimeoutError) else f" ({error.details()})"
            why = f"no session could be opened{said}"
            raise retry.given_up(method, trial.last, trial.maybe_done, why) from None

    def _attempt_s(self, trial: _Trial) -> float:
        remaining_s = trial.remaining_s()
        hold_s = trial.hold_s
        if hold_s:  # a retry waits only for what those before it have left
            hold_s = max(0.0, trial.hold_deadline - trial.loop.time())
        attempt_s = retry.attempt_timeout_s(trial.rounds, remaining_s, len(self.endpoints))
        return max(0.0, min(remaining_s, hold_s + attempt_s))

    def _weigh(self, method: AnyMethod, endpoint: str, failure: Failure, trial: _Trial) -> Verdict:
        """Take note of a failed attempt and return how to go on; raise if there is no way."""
        timed_out = failure.code is grpc.StatusCode.DEADLINE_EXCEEDED and not failure.definite
        if timed_out and trial.hold_s > 0 and trial.attempts > 1 and trial.hold_over():
            raise WaitOver
        trial.tried.add(endpoint)
        if trial.write and retry.judge(failure) is Verdict.REFUSED and not failure.unreachable:
            self.endpoints.wrote(endpoint, trial.tried - {endpoint})
        else:
            self.note(endpoint, failure)
        trial.last = failure
        verdict = retry.judge(failure)
        ignorant = failure.code is _UNIMPLEMENTED
        if ignorant:
            trial.ignorant[endpoint] = failure
            if self._others_may_know(trial):
                return Verdict.TRY_AGAIN
        in_doubt = trial.maybe_done and method.mutates
        if verdict is Verdict.REFUSED and in_doubt and (ignorant or failure.definite is None):
            # No word on the attempts before, or not even the daemon's.
            verdict = Verdict.UNKNOWN
        if verdict is Verdict.REFUSED:
            raise retry.refusal(failure)
        if verdict is Verdict.UNKNOWN:
            raise retry.given_up(method, failure, True, "the outcome can't be known")
        if verdict is Verdict.TRY_AGAIN_SAME_NUMBER:
            if method.mutates and not (method.numbered or method.rerunnable):
                raise retry.given_up(method, failure, True, "asking again might do it twice")
            trial.maybe_done = True
        elif verdict is Verdict.NEW_NUMBER:
            trial.maybe_done = False
        elif verdict is Verdict.NEW_SESSION and trial.maybe_done and not method.rerunnable:
            raise retry.given_up(method, failure, True, "the session that knew the answer is gone")
        return verdict

    def _others_may_know(self, trial: _Trial) -> bool:
        """Whether some replica that can be asked has not said that it does not know the method."""
        endpoint = self.endpoints.pick(trial.ignorant)
        return endpoint is not None and endpoint not in trial.ignorant

    def note(self, endpoint: str, failure: Failure) -> None:
        """Remember what a failure says about `endpoint` and the leader."""
        if failure.unreachable:
            self.endpoints.failed(endpoint)
        elif retry.judge(failure) is Verdict.REFUSED:
            self.endpoints.worked(endpoint)
        else:
            self.endpoints.unready(endpoint)
        if failure.leader:
            self.endpoints.hint(failure.leader)

    # ------------------------------------------------------------ sessions

    async def _open_session(self, timeout_s: float) -> Session:
        answer = await self.call(methods.OPEN_SESSION, pb.OpenSessionRequest(), timeout_s)
        return Session(answer.session_id, answer.window or DEFAULT_WINDOW)

    def _close_session(self, session: Session) -> None:
        task = asyncio.ensure_future(self._forget(session))
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def _forget(self, session: Session) -> None:
        # One attempt: the cluster lets unused sessions expire by itself.
        request = pb.CloseSessionRequest(session_id=session.session_id)
        endpoint = self.endpoints.pick(()) or ""
        with contextlib.suppress(Failure):
            await self.transport.call(endpoint, methods.CLOSE_SESSION, request, {}, CLOSE_TIMEOUT_S)
