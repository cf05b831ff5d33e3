"""Runs each example's `report` with every library that is installed here.

A report takes a function that converts NumPy's data, and returns its result in one line. The data are converted once,
before the algorithm begins, by `interop.convert`; to float32, which every library has.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

import interop

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from examples.neutral import Array

    AsArray = Callable[[Any], Array]
    Report = Callable[[AsArray], str]

__all__ = ["Library", "Line", "libraries", "lines", "show"]

# Each library, and where it is asked to live: CuPy has no arrays on the CPU.
PLACES = {"numpy": "cpu", "torch": "cpu", "cupy": "cuda", "jax": "cpu", "array_api_strict": "cpu"}


class Library(NamedTuple):
    """A library, and the function that makes its arrays; None, and why, if it cannot be used here."""

    name: str
    asarray: AsArray | None
    reason: str = ""


class Line(NamedTuple):
    """What a report found with one library, and how long that took in seconds."""

    library: str
    found: str
    seconds: float


def libraries() -> list[Library]:
    """Return every library of `PLACES`, usable or not."""
    return [_library(name, device) for name, device in PLACES.items()]


def _library(name: str, device: str) -> Library:
    def asarray(data: Any) -> Array:
        return interop.convert(np.asarray(data), name, device=device, dtype="float32")

    try:
        asarray([0.0])
    except (interop.BackendNotInstalledError, interop.DeviceUnavailableError) as error:
        return Library(name, None, str(error).partition("\n\n")[0].splitlines()[-1].strip(" -"))
    return Library(name, asarray)


def lines(report: Report) -> Iterator[Line]:
    """Run a report with each library that can be used here."""
    for name, asarray, _ in libraries():
        if asarray is not None:
            begin = time.perf_counter()
            yield Line(name, _found(report, asarray), time.perf_counter() - begin)


def _found(report: Report, asarray: AsArray) -> str:
    try:
        return report(asarray)
    except interop.InteropError as error:  # a function for NumPy that does not permit a GPU's array to come over
        return f"refused: {error.message.splitlines()[-1].strip(' -')}"


def show(title: str, report: Report) -> None:
    """Print what a report finds, one line for each library."""
    print(title.splitlines()[0])
    for name, found, seconds in lines(report):
        print(f"  {name:<16}  {seconds:5.2f} s  {found}")
    show_missing()


def show_missing() -> None:
    """Print which libraries were left out, and why."""
    for name, asarray, reason in libraries():
        if asarray is None:
            print(f"  {name:<16}  left out: {reason}")
