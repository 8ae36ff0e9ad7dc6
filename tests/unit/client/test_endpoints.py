import pytest

from agentkeeper.client.endpoints import FIRST_PENALTY_S, MAX_PENALTY_S, Endpoints, parse_endpoint


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def make(clock, *addresses):
    return Endpoints(addresses, clock, shuffle=lambda ring: None)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("host", "host:7070"),
        ("host:1", "host:1"),
        (" 10.0.0.1:7071 ", "10.0.0.1:7071"),
        ("[::1]:7071", "[::1]:7071"),
        ("[::1]", "[::1]:7070"),
        ("::1", "[::1]:7070"),
    ],
)
def test_addresses_are_read(text, expected):
    assert parse_endpoint(text) == expected


@pytest.mark.parametrize(
    "text", ["", ":7070", "host:", "host:x", "host:0", "host:65536", "host:-1"]
)
def test_malformed_addresses_are_refused(text):
    with pytest.raises(ValueError, match="endpoint"):
        parse_endpoint(text)


def test_an_empty_list_is_refused(clock):
    with pytest.raises(ValueError, match="at least one"):
        make(clock)


def test_calls_stay_with_the_endpoint_that_works(clock):
    endpoints = make(clock, "a", "b", "c")
    endpoints.worked("b:7070")
    assert endpoints.pick(set()) == "b:7070"
    assert endpoints.pick({"b:7070"}) == "c:7070"
    assert endpoints.pick({"b:7070", "c:7070"}) == "a:7070"
    assert endpoints.pick({"a:7070", "b:7070", "c:7070"}) is None


def test_a_failed_endpoint_is_avoided_for_a_while_that_doubles(clock):
    endpoints = make(clock, "a", "b")
    endpoints.failed("a:7070")
    endpoints.failed("a:7070")  # together with the first: counts once
    assert endpoints.pick(set()) == "b:7070"
    assert endpoints.pick({"b:7070"}) is None
    clock.now += FIRST_PENALTY_S
    assert endpoints.pick(set()) == "a:7070"
    endpoints.failed("a:7070")
    clock.now += FIRST_PENALTY_S
    assert endpoints.pick(set()) == "b:7070"
    for _ in range(20):
        clock.now += MAX_PENALTY_S
        endpoints.failed("a:7070")
    clock.now += MAX_PENALTY_S
    assert endpoints.pick(set()) == "a:7070"


def test_an_answer_ends_the_penalty(clock):
    endpoints = make(clock, "a", "b")
    endpoints.failed("a:7070")
    endpoints.worked("a:7070")
    assert endpoints.pick(set()) == "a:7070"


def test_with_nothing_better_bad_endpoints_are_tried_once_each(clock):
    endpoints = make(clock, "a", "b")
    endpoints.failed("b:7070")
    clock.now += 0.1
    endpoints.failed("a:7070")
    assert endpoints.pick(set()) == "b:7070"
    assert endpoints.pick({"b:7070"}) == "a:7070"
    assert endpoints.pick({"a:7070", "b:7070"}) is None


def test_the_leader_is_preferred_until_it_proves_unready(clock):
    endpoints = make(clock, "a", "127.0.0.1:1", "localhost:2")
    endpoints.hint("127.0.0.1:1")
    assert endpoints.pick(set()) == "127.0.0.1:1"
    endpoints.unready("127.0.0.1:1")
    assert endpoints.pick(set()) == "a:7070"
    endpoints.hint("127.0.0.1:2")
    assert endpoints.pick(set()) == "localhost:2"
    endpoints.failed("localhost:2")
    assert endpoints.pick(set()) == "a:7070"


@pytest.mark.parametrize("leader", ["", "elsewhere:7070", "nonsense:x"])
def test_a_hint_outside_the_list_is_ignored(clock, leader):
    endpoints = make(clock, "a", "b")
    endpoints.hint(leader)
    assert endpoints.pick(set()) == "a:7070"


def test_clients_begin_at_different_replicas(clock):
    firsts = {Endpoints(["a", "b", "c"], clock).pick(set()) for _ in range(200)}
    assert firsts == {"a:7070", "b:7070", "c:7070"}
