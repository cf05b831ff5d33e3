"""The benchmarks' arithmetic, with fake timers."""

import pytest

from benchmarks import timing
from benchmarks.runner import status
from benchmarks.timing import FULL, Settings, compare, interleave, loops_for, spread


def no_settling():
    return None


def clock(per_loop):
    """A timer that takes `per_loop` seconds a loop; remembers its calls, and what they took."""
    calls = []

    def timer(loops):
        calls.append(loops)
        timer.spent += per_loop * loops
        return per_loop * loops

    timer.calls, timer.spent = calls, 0.0
    return timer


@pytest.mark.parametrize(("per_loop", "turn", "loops"), [(1e-6, 0.003, 3000), (1e-3, 0.003, 3), (1.0, 0.003, 1)])
def test_a_turn_takes_as_many_loops_as_fit(per_loop, turn, loops):
    assert loops_for(clock(per_loop), turn) == loops


def test_one_interruption_does_not_shorten_the_turns():
    steady, calls = clock(1e-6), []

    def interrupted(loops):
        calls.append(loops)
        return steady(loops) + (0.1 if len(calls) == 1 else 0.0)

    assert loops_for(interrupted, 0.003) == 3000


@pytest.mark.parametrize(("per_loop", "calls"), [(2.0, 1), (timing.PATIENCE, 1), (timing.PATIENCE * 0.6, 2), (timing.PATIENCE * 0.4, 3)])
def test_a_slow_call_is_not_repeated_to_find_out_how_slow_it_is(per_loop, calls):
    timer = clock(per_loop)
    assert loops_for(timer, 0.003) == 1
    assert timer.calls == [1] * calls


def rounds_taken(seconds, least=7, per_loop=0.2, rounds=151):
    """Return how many rounds two contestants get, one of which is slow."""
    timers = [clock(per_loop), clock(1e-3)]
    settings = Settings(rounds=rounds, turn=0.001, launches=0, seconds=seconds, least=least)
    times = interleave(timers, settings, no_settling, clock=lambda: sum(timer.spent for timer in timers))
    assert len(times[0]) == len(times[1])
    return len(times[0])


def test_a_case_ends_when_its_time_is_over():
    # 0.4 s to find out how slow they are, and a round of 0.201 s has to begin before 4 s are over.
    assert rounds_taken(seconds=4) == 18
    assert rounds_taken(seconds=400) == 151


def test_the_least_number_of_rounds_is_taken_all_the_same():
    assert rounds_taken(seconds=0.1) == 7
    assert rounds_taken(seconds=0.1, least=3, per_loop=2.0) == 3
    assert rounds_taken(seconds=0.1, rounds=2) == 2


def test_the_cap_on_the_host_is_beyond_what_its_cases_take_but_for_one():
    assert rounds_taken(FULL.seconds, per_loop=0.08) == FULL.rounds
    assert 30 <= rounds_taken(FULL.seconds, per_loop=3.7) < FULL.rounds


def test_contestants_take_turns_and_the_order_rotates():
    order = []
    timers = [lambda loops, name=name: order.append(name) or 1.0 for name in "abc"]
    settled = []
    times = interleave(timers, Settings(rounds=3, turn=0.0, launches=0), lambda: settled.append(len(order)))
    assert "".join(order[-9:]) == "abcbcacab"
    assert len(settled) == 3 + 9
    assert times == [[1e9] * 3] * 3


def test_times_are_nanoseconds_per_loop():
    ((first, *_), _) = interleave([clock(2e-6), clock(1e-6)], Settings(rounds=2, turn=0.001, launches=0), no_settling)
    assert first == pytest.approx(2000)


def test_the_ratio_is_taken_within_a_round():
    # The machine slows down tenfold in the second half; both feel it.
    reference = [100.0] * 5 + [1000.0] * 5
    assert compare([2 * value for value in reference], reference) == (2.0, 2.0, 2.0)


def test_the_spread_is_the_10th_and_the_90th_percentile():
    assert spread([float(value) for value in range(101)]) == (50.0, 10.0, 90.0)


@pytest.mark.parametrize(
    ("value", "budget", "call_ns", "or_ns", "expected"),
    [
        (1.35, 1.35, None, None, "within"),
        (1.36, 1.35, None, None, "over"),
        (0.6, 0.5, 401, 400, "over"),
        (0.6, 0.5, 400, 400, "within"),
        (0.4, 0.5, 900, 400, "within"),
        (99.0, None, None, None, "information"),
        (0, 0, None, None, "within"),
        (1, 0, None, None, "over"),
    ],
)
def test_status(value, budget, call_ns, or_ns, expected):
    assert status(value, budget, call_ns, or_ns) == expected
