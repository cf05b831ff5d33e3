"""Real algorithms, each written once for every array library, with `interop.neutral`.

Each file states one algorithm in the terms of the array API standard and nothing else: it imports no array library,
changes no array in place, and creates every array on the device of its arguments. The result is an array of the
caller's library, on its device, and inside its graph where it has one. Arrays are real and floating, all of one
dtype, unless stated otherwise. `python -m examples.neutral` runs them all.
"""

from typing import Any

__all__ = ["Array"]

# An array of whichever library the caller uses: the standard has no type that all of them share yet.
Array = Any
