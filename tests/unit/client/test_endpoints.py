import pytest

from agentkeeper.client.endpoints import (
    FIRST_PENALTY_S,
    MAX_PENALTY_S,
    PROBE_EVERY,
    Endpoints,
    parse_endpoint,
)


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


def test_writes_prefer_the_leader_until_it_proves_unready(clock):
    endpoints = make(clock, "a", "127.0.0.1:1", "localhost:2")
    endpoints.hint("127.0.0.1:1")
    assert endpoints.pick(set(), write=True) == "127.0.0.1:1"
    endpoints.unready("127.0.0.1:1")
    assert endpoints.pick(set(), write=True) == "a:7070"
    endpoints.hint("127.0.0.1:2")
    assert endpoints.pick(set(), write=True) == "localhost:2"
    endpoints.failed("localhost:2")
    assert endpoints.pick(set(), write=True) == "a:7070"


def test_reads_stay_at_home_and_turn_to_the_leader_only_in_need(clock):
    endpoints = make(clock, "a", "b", "c")
    endpoints.hint("c")
    assert endpoints.pick(set()) == "a:7070"
    assert endpoints.pick({"a:7070"}) == "c:7070"
    assert endpoints.pick({"a:7070", "c:7070"}) == "b:7070"
    endpoints.failed("a:7070")
    assert endpoints.pick(set()) == "b:7070"


def test_writes_leave_home_where_it_is(clock):
    endpoints = make(clock, "a", "b", "c")
    endpoints.hint("c")
    endpoints.wrote("c:7070")
    endpoints.wrote("b:7070")  # which has just stopped leading, say
    assert endpoints.pick(set()) == "a:7070"
    endpoints.wrote("c:7070", {"a:7070"})  # home failed, and the leader is nobody's home for it
    assert endpoints.pick(set()) == "a:7070"
    endpoints.wrote("b:7070", {"a:7070"})
    assert endpoints.pick(set()) == "b:7070"


def test_a_write_answered_ends_the_penalty(clock):
    endpoints = make(clock, "a", "b")
    endpoints.failed("a:7070")
    endpoints.wrote("a:7070")
    assert endpoints.pick(set()) == "a:7070"


def test_the_hint_that_nobody_leads_is_believed(clock):
    endpoints = make(clock, "a", "b")
    endpoints.hint("b")
    endpoints.hint("")
    assert endpoints.pick(set(), write=True) == "a:7070"
    assert endpoints.pick({"a:7070"}) == "b:7070"


def test_a_hint_outside_the_list_changes_nothing(clock):
    endpoints = make(clock, "a", "b")
    endpoints.hint("b")
    endpoints.hint("elsewhere:7070")
    assert endpoints.pick(set(), write=True) == "b:7070"


def test_a_bad_leader_is_avoided_by_writes_too(clock):
    endpoints = make(clock, "a", "b")
    endpoints.hint("b")
    endpoints.failed("b:7070")
    picked = [endpoints.pick(set(), write=True) for _ in range(3 * PROBE_EVERY)]
    assert picked == ["a:7070"] * 3 * PROBE_EVERY


def write(endpoints, count, **answer_s):
    """Make writes whose answers take so long at each endpoint; return who got them."""
    asked = []
    for _ in range(count):
        address = endpoints.pick(set(), write=True)
        asked.append(address.split(":", maxsplit=1)[0])
        endpoints.wrote(address, (), answer_s[asked[-1]])
    return asked


def test_every_so_many_writes_one_goes_to_the_other(clock):
    endpoints = make(clock, "home", "lead")
    endpoints.hint("lead")
    round_ = ["lead"] * (PROBE_EVERY - 1) + ["home"]
    assert write(endpoints, 4 * PROBE_EVERY, lead=1.0, home=1.0) == round_ * 4


def test_a_leader_that_is_clearly_slower_is_left_for_home_and_found_again(clock):
    endpoints = make(clock, "home", "lead")
    endpoints.hint("lead")
    write(endpoints, 3 * PROBE_EVERY, lead=1.0, home=1.0)
    assert set(write(endpoints, PROBE_EVERY - 1, lead=1.2, home=1.0)) == {"lead"}
    write(endpoints, PROBE_EVERY, lead=1.5, home=1.0)
    asked = write(endpoints, PROBE_EVERY, lead=1.5, home=1.0)
    assert asked.count("home") == PROBE_EVERY - 1
    write(endpoints, 10 * PROBE_EVERY, lead=0.5, home=1.0)
    assert write(endpoints, PROBE_EVERY, lead=0.5, home=1.0).count("lead") == PROBE_EVERY - 1


def test_one_slow_answer_does_not_make_a_slow_leader(clock):
    endpoints = make(clock, "home", "lead")
    endpoints.hint("lead")
    write(endpoints, 3 * PROBE_EVERY, lead=1.0, home=1.0)
    assert write(endpoints, 1, lead=50.0, home=1.0) == ["lead"]
    assert write(endpoints, 10, lead=1.0, home=1.0) == ["lead"] * 10


def test_the_first_answer_which_pays_for_the_connection_does_not_count(clock):
    endpoints = make(clock, "home", "lead")
    endpoints.hint("lead")
    endpoints.wrote("lead:7070", (), 100.0)
    endpoints.wrote("home:7070", (), 1.0)
    endpoints.wrote("home:7070", (), 1.0)
    assert write(endpoints, 10, lead=1.0, home=1.0) == ["lead"] * 10


def test_a_leader_that_failed_is_trusted_again_after_a_probe(clock):
    endpoints = make(clock, "home", "lead")
    endpoints.hint("lead")
    endpoints.failed("lead:7070")
    clock.now += FIRST_PENALTY_S
    asked = write(endpoints, 2 * PROBE_EVERY - 1, lead=1.0, home=1.0)
    assert asked == ["home"] * (PROBE_EVERY - 1) + ["lead"] * PROBE_EVERY


def test_times_are_those_under_the_present_leader(clock):
    endpoints = make(clock, "a", "b", "c")
    endpoints.hint("b")
    write(endpoints, 3 * PROBE_EVERY, a=1.0, b=9.0)
    assert endpoints.pick(set(), write=True) == "a:7070"
    endpoints.hint("c")
    assert endpoints.pick(set(), write=True) == "c:7070"
    endpoints.hint("b")
    assert endpoints.pick(set(), write=True) == "b:7070"


@pytest.mark.parametrize("leader", ["", "elsewhere:7070", "nonsense:x"])
def test_a_hint_outside_the_list_is_ignored(clock, leader):
    endpoints = make(clock, "a", "b")
    endpoints.hint(leader)
    assert endpoints.pick(set()) == "a:7070"


def test_clients_begin_at_different_replicas(clock):
    firsts = {Endpoints(["a", "b", "c"], clock).pick(set()) for _ in range(200)}
    assert firsts == {"a:7070", "b:7070", "c:7070"}
