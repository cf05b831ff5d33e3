"""Two made-up libraries of strangers, as the suite meets them: one that prints wherever it is asked, one that has next to nothing.

Both are honest: what a run finds of them is what their texts promise and they do not do, and nothing else. Each has liars beside it.
"""

import ctypes
import os

_libc = ctypes.CDLL(None)

INTEGERS = tuple(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))
NUMBERS = (*INTEGERS, "float32", "float64")
"""What every library takes: a refusal would let go of a capsule whose destructor is in Python while an exception is on its way."""


def shout(where: str) -> None:
    """Print as libraries do: from Python, to the file descriptor, and from C with a buffer of its own."""
    print(f'["{where}", "shared", ""]')
    os.write(1, f'["{where}", "shared", ""]\n'.encode())
    _libc.puts(f'["{where}", "shared", ""]'.encode())
