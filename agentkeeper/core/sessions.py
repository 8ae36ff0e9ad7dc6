"""Sessions: a request and its retries take effect once (Raft thesis, section 6.3).

An answer is kept until the client says that it has seen it. A number whose answer is gone is
refused as unknown, never run again; one too far ahead of what the client has seen is refused
before it does anything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentkeeper.core import leases, limits, refusals, tasks
from agentkeeper.core.deadlines import Kind
from agentkeeper.core.records import (
    DONE,
    Acquired,
    Answer,
    Refused,
    Result,
    Session,
    Task,
    Waiting,
)

if TYPE_CHECKING:
    from agentkeeper.core.commands import CloseSession, Command, OpenSession, Withdraw
    from agentkeeper.core.state import State

ANY_REQUEST = -1
"""Fingerprint that stands for whatever request has the number."""
REPLICA = "replica:"
"""Identities of replicas, whose sessions carry the calls of those who have none."""


def open_session(state: State, command: OpenSession, identity: str) -> Result:
    """Open a session under the id that the caller drew; the same again gives the same."""
    known = settled(state, command.session_id)
    if known is not None:
        return known if known.identity == identity else _not_yours(command.session_id)
    # Replicas get theirs also when clients have taken all the room.
    if len(state.sessions) >= limits.SESSIONS and not identity.startswith(REPLICA):
        return refusals.limit("sessions", limits.SESSIONS)
    session = Session(
        session_id=command.session_id,
        identity=identity,
        ttl_ms=command.ttl_ms,
        window=command.window,
        seen=0,
        deadline_ms=state.time_ms + command.ttl_ms,
    )
    _put(state, session)
    return session


def close_session(state: State, command: CloseSession, identity: str) -> Result:
    """Forget a session of the same identity."""
    session = settled(state, command.session_id)
    if session is None:
        return refusals.not_found("session", command.session_id)
    if session.identity != identity:
        return _not_yours(command.session_id)
    end(state, session)
    return DONE


def admit(state: State, command: Command, fingerprint: int) -> Result | None:
    """Decide whether a command may run: None if so, its answer otherwise."""
    session = settled(state, command.session_id)
    if session is None:
        return refusals.session_expired(command.session_id)
    replicas_own = session.identity.startswith(REPLICA)
    if session.identity != command.identity and not replicas_own:
        return _not_yours(command.session_id)
    number, seen = command.number, session.seen
    if session.seen < command.seen < number:
        _forget_answers(state, session, command.seen)
        seen = command.seen
    _put(state, _used(state, session)._replace(seen=seen))
    if number <= seen:
        return refusals.outcome_unknown(number)
    if number > seen + session.window:
        return refusals.limit("unanswered requests in this session", session.window)
    return _remembered(state, command, fingerprint, replicas_own)


def _remembered(
    state: State, command: Command, fingerprint: int, replicas_own: bool
) -> Result | None:
    """What an earlier copy of the command was answered; None if it is to run (again)."""
    key = (command.session_id, command.number)
    answer = state.answers.get(key)
    if answer is None:
        return None
    if answer.fingerprint not in (fingerprint, ANY_REQUEST):
        return refusals.number_reused(command.number)
    if isinstance(answer.result, Waiting) and not replicas_own:
        return None
    # A replica takes a new number for each try, so there even `Waiting` is an answer.
    if answer.attempt != command.attempt:
        # Several calls have asked, and which of them was given the answer can't be known here:
        # none may withdraw it any more.
        state.answers.put(key, answer._replace(attempt=0))
    return answer.result


def withdraw(state: State, command: Withdraw) -> Result:
    """Undo what a request waits for or was given, as its call ended before the answer got out.

    Later copies of the request, still on their way, find that it is over.
    """
    key = (command.session_id, command.number)
    session = settled(state, command.session_id)
    if command.attempt == 0 or session is None:
        return DONE
    if not session.seen < command.number <= session.seen + session.window:
        return DONE
    answer = state.answers.get(key)
    if answer is not None and answer.attempt != command.attempt:
        return DONE
    leases.withdraw(state, key)
    if answer is not None and isinstance(answer.result, Task):
        tasks.withdraw(state, answer.result)
    if answer is not None and isinstance(answer.result, Acquired) and answer.result.acquired:
        leases.give_back(state, answer.result.lease)
    state.answers.put(key, Answer(refusals.WITHDRAWN_REQUEST, ANY_REQUEST, command.attempt))
    return DONE


def keep_until(state: State, session_id: str, deadline_ms: int) -> None:
    """Let a session live at least until then, as something of it waits that long."""
    session = state.sessions.get(session_id)
    if session is not None and session.deadline_ms < deadline_ms:
        _put(state, session._replace(deadline_ms=deadline_ms))


def settled(state: State, session_id: str) -> Session | None:
    """The session, unless its time is over."""
    session = state.sessions.get(session_id)
    if session is not None and state.expired(session.deadline_ms):
        end(state, session)
        return None
    return session


def end(state: State, session: Session) -> None:
    """Forget a session, its answers and its places in line."""
    session_id = session.session_id
    state.sessions.drop(session_id)
    state.deadlines.clear(Kind.SESSION, session_id)
    leases.drop_waiters(state, state.waiters_by_session.of(session_id))
    _forget_answers(state, session, session.seen + session.window)


def _forget_answers(state: State, session: Session, seen: int) -> None:
    """Forget the requests up to `seen`; what any of them still waits for is wanted no more."""
    last = min(seen, session.seen + session.window)
    for number in range(session.seen + 1, last + 1):
        key = (session.session_id, number)
        state.answers.drop(key)
        if key in state.waiters or key in state.grants:
            leases.withdraw(state, key)


def _used(state: State, session: Session) -> Session:
    deadline_ms = max(session.deadline_ms, state.time_ms + session.ttl_ms)
    return session._replace(deadline_ms=deadline_ms)


def _put(state: State, session: Session) -> None:
    state.sessions.put(session.session_id, session)
    state.deadlines.set(Kind.SESSION, session.session_id, session.deadline_ms)


def _not_yours(session_id: str) -> Refused:
    return Refused(
        refusals.PERMISSION_DENIED, "identity", f"session {session_id!r} is another caller's"
    )
