"""Turns, medians, spreads: how two calls are compared on a machine that does other things too.

The contestants run in rounds, a few milliseconds each, and the ratio is taken within a round: whatever slows the machine
down for longer than that slows both. The order rotates, so that nobody always follows the same neighbour. The median
of the rounds' ratios is the result; the 10th and the 90th percentile tell how far to trust it.

A case has a cap in time, since its calls may take microseconds or seconds. Where the cap is reached, fewer rounds are taken; the row
says how many.

A timer is a function from a number of loops to seconds, such as `timeit.Timer.timeit` (which turns the garbage
collector off); tests put in fakes.
"""

from __future__ import annotations

import math
import time
from statistics import median, quantiles
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Timer = Callable[[int], float]

__all__ = ["FULL", "QUICK", "Settings", "Spread", "compare", "interleave", "loops_for", "spread"]


class Settings(NamedTuple):
    """How much to measure.

    Attributes
    ----------
    rounds : int
        Rounds of a case.
    turn : float
        Seconds of a contestant's turn.
    launches : int
        Launches of an interpreter.
    seconds : float
        After so many seconds of a case no further round begins.
    least : int
        Rounds that are taken all the same; two at least, or there is no spread.
    """

    rounds: int
    turn: float
    launches: int
    seconds: float = math.inf
    least: int = 7


# On the host one case reaches the cap: 10,000 copies one by one take 1.7 s, and 151 rounds would be ten minutes. 30 rounds are as good.
FULL = Settings(rounds=151, turn=0.003, launches=41, seconds=120)
QUICK = Settings(rounds=11, turn=0.0005, launches=5, seconds=20)

PATIENCE = 0.25
"""Seconds after which a call is slow: it is not repeated to find out how slow."""


class Spread(NamedTuple):
    """A median, and the 10th and 90th percentile around it."""

    median: float
    low: float
    high: float


def spread(values: Sequence[float]) -> Spread:
    """Return the median of at least two values and its spread.

    >>> spread([1.0, 2.0, 3.0])
    Spread(median=2.0, low=1.2, high=2.8)
    """
    tenths = quantiles(values, n=10, method="inclusive")
    return Spread(median(values), round(tenths[0], 9), round(tenths[-1], 9))


def loops_for(timer: Timer, turn: float) -> int:
    """Return how many loops take about `turn` seconds, at least one; the first call, which may load a backend, has been made."""
    loops, seconds = 1, _fastest(timer, 1)
    # Up to a quarter of the turn, so that the estimate below is not made from the resolution of the clock.
    while seconds < turn / 4:
        loops *= 2
        seconds = _fastest(timer, loops)
    return max(1, round(loops * turn / seconds))


def _fastest(timer: Timer, loops: int) -> float:
    # Of three: a turn of one loop, chosen after one interruption, would time the clock for the rest of the case.
    seconds = [timer(loops)]
    while len(seconds) < 3 and sum(seconds) < PATIENCE:
        seconds.append(timer(loops))
    return min(seconds)


def interleave(
    timers: Sequence[Timer], settings: Settings, drain: Callable[[], object], clock: Callable[[], float] = time.perf_counter
) -> list[list[float]]:
    """Return the nanoseconds per loop of each timer in each round; `drain` runs before every turn, untimed."""
    begun = clock()
    loops = []
    for timer in timers:
        loops.append(loops_for(timer, settings.turn))
        drain()
    times: list[list[float]] = [[] for _ in timers]
    for number in range(settings.rounds):
        # Between rounds only: a round that not everybody had would have no ratio.
        if number >= settings.least and clock() - begun >= settings.seconds:
            break
        for place in range(len(timers)):
            turn = (place + number) % len(timers)
            times[turn].append(timers[turn](loops[turn]) / loops[turn] * 1e9)
            drain()
    return times


def compare(call: Sequence[float], reference: Sequence[float]) -> Spread:
    """Return the spread of the ratios, round by round."""
    return spread([mine / theirs for mine, theirs in zip(call, reference, strict=True)])
