import grpc
import pytest

from agentkeeper import errors
from agentkeeper.client import methods, retry
from agentkeeper.client.retry import Verdict
from agentkeeper.client.transport import Failure

Code = grpc.StatusCode


def failure(code, **metadata):
    entries = {f"agentkeeper-{key}": value for key, value in metadata.items()}
    return Failure.from_status(code, "details", entries)


@pytest.mark.parametrize(
    ("failed", "verdict"),
    [
        (failure(Code.UNAVAILABLE, definite="true"), Verdict.TRY_AGAIN),
        (failure(Code.UNAVAILABLE, definite="false"), Verdict.TRY_AGAIN_SAME_NUMBER),
        (failure(Code.UNAVAILABLE), Verdict.TRY_AGAIN_SAME_NUMBER),
        (failure(Code.CANCELLED), Verdict.TRY_AGAIN_SAME_NUMBER),
        (failure(Code.UNKNOWN), Verdict.TRY_AGAIN_SAME_NUMBER),
        (failure(Code.INTERNAL, definite="false"), Verdict.TRY_AGAIN_SAME_NUMBER),
        (failure(Code.DEADLINE_EXCEEDED), Verdict.TRY_AGAIN_SAME_NUMBER),
        (failure(Code.NOT_FOUND, definite="true"), Verdict.REFUSED),
        (failure(Code.NOT_FOUND), Verdict.REFUSED),
        (failure(Code.RESOURCE_EXHAUSTED, definite="true", reason="limit"), Verdict.REFUSED),
        (
            failure(Code.RESOURCE_EXHAUSTED, definite="true", reason="overloaded"),
            Verdict.TRY_AGAIN,
        ),
        (failure(Code.UNAVAILABLE, definite="true", reason="overloaded"), Verdict.TRY_AGAIN),
        (failure(Code.RESOURCE_EXHAUSTED), Verdict.TRY_AGAIN_SAME_NUMBER),
        (failure(Code.ABORTED), Verdict.UNKNOWN),
        (failure(Code.ABORTED, definite="false"), Verdict.UNKNOWN),
        (failure(Code.FAILED_PRECONDITION, definite="true"), Verdict.REFUSED),
        (
            failure(Code.FAILED_PRECONDITION, definite="true", reason="session_expired"),
            Verdict.NEW_SESSION,
        ),
        (
            failure(Code.FAILED_PRECONDITION, definite="false", reason="session_expired"),
            Verdict.NEW_SESSION,
        ),
        (failure(Code.ABORTED, definite="true", reason="withdrawn"), Verdict.NEW_NUMBER),
    ],
)
def test_what_a_failure_means(failed, verdict):
    assert retry.judge(failed) is verdict


def test_only_a_status_without_a_word_from_the_daemon_blames_the_endpoint():
    assert failure(Code.UNAVAILABLE).unreachable
    assert failure(Code.DEADLINE_EXCEEDED).unreachable
    assert not failure(Code.UNAVAILABLE, definite="true").unreachable
    assert not failure(Code.UNAVAILABLE, definite="false").unreachable
    assert not failure(Code.NOT_FOUND).unreachable


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (Code.INVALID_ARGUMENT, errors.InvalidArgument),
        (Code.NOT_FOUND, errors.NotFound),
        (Code.PERMISSION_DENIED, errors.PermissionDenied),
        (Code.ALREADY_EXISTS, errors.AlreadyExists),
        (Code.RESOURCE_EXHAUSTED, errors.Overloaded),
        (Code.OUT_OF_RANGE, errors.Compacted),
        (Code.FAILED_PRECONDITION, errors.Refused),
        (Code.UNIMPLEMENTED, errors.Refused),
    ],
)
def test_refusals_have_their_kind_and_code(code, kind):
    error = retry.refusal(failure(code, definite="true", reason="why"))
    assert type(error) is kind
    assert (error.code(), error.details(), error.reason) == (code, "details", "why")


def test_refusals_carry_field_and_oldest():
    assert retry.refusal(failure(Code.INVALID_ARGUMENT, field="card.name")).field == "card.name"
    assert retry.refusal(failure(Code.OUT_OF_RANGE, oldest="17")).oldest == 17
    said = Failure.from_status(Code.OUT_OF_RANGE, "gone", {"agentkeeper-oldest": "23"})
    assert retry.refusal(said).oldest == 23


def test_given_up():
    lost = failure(Code.DEADLINE_EXCEEDED)
    unknown = retry.given_up(methods.CREATE_TASK, lost, True, "why")
    assert isinstance(unknown, errors.OutcomeUnknown)
    assert unknown.code() is Code.DEADLINE_EXCEEDED
    assert isinstance(retry.given_up(methods.CREATE_TASK, lost, False, "why"), errors.Unavailable)
    read = retry.given_up(methods.FIND, lost, True, "why")
    assert isinstance(read, errors.Unavailable)
    assert read.code() is Code.UNAVAILABLE


@pytest.mark.parametrize("code", [Code.RESOURCE_EXHAUSTED, Code.UNAVAILABLE])
def test_given_up_for_want_of_room(code):
    full = failure(code, definite="true", reason="overloaded")
    error = retry.given_up(methods.CREATE_TASK, full, False, "why")
    assert isinstance(error, errors.Overloaded)
    assert (error.code(), error.reason) == (Code.RESOURCE_EXHAUSTED, "overloaded")
    unknown = retry.given_up(methods.CREATE_TASK, full, True, "why")
    assert isinstance(unknown, errors.OutcomeUnknown), "an attempt before may have had an effect"


@pytest.mark.parametrize("remaining_s", [0.1, 0.3, 1.0, 5.0, 30.0, 1e9])
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("rounds", [0, 1, 5, 1000])
def test_attempts_fit_what_remains(remaining_s, count, rounds):
    attempt_s = retry.attempt_timeout_s(rounds, remaining_s, count)
    assert 0 < attempt_s <= min(remaining_s, retry.MAX_ATTEMPT_TIMEOUT_S)


def test_a_hanging_endpoint_costs_little_of_a_long_call():
    assert retry.attempt_timeout_s(0, 30.0, 3) <= 2.0
    assert retry.attempt_timeout_s(0, 2.0, 3) <= 1.0


def test_pauses_grow_to_a_bound():
    assert retry.pause_s(0) <= retry.FIRST_PAUSE_S
    assert all(retry.pause_s(n) <= retry.MAX_PAUSE_S for n in range(2000))
    assert retry.pause_s(2000) >= retry.MAX_PAUSE_S / 2
