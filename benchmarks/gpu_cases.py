"""The cases on a CUDA device: handoffs between torch and CuPy, and transfers between a device and the host.

A handoff is work of the host (describing, ordering two streams), so nothing is waited for inside the timed loop; the device is drained
between the rounds, so that its queue does not push back. A transfer is over when the data have arrived, so there every contestant waits
for the device.

What the project promises comes first, what takes long last, so that a run that is stopped loses the least. Estimated for an H200,
with 151 rounds of 3 ms turns, 3 s a case at most (`benchmarks.gpu.SETTINGS`), 1.5 to 6 GB/s through pageable memory and 50 GB/s through
page-locked memory:

====================================  =========================================================================
imports, context, nvidia-smi          8 s
6 handoffs                            2 contestants 0.9 s, 3 contestants 1.4 s: 8 s
2 with a budget and real work         3.5 s each: 7 s
3 transfers of 8x8                    0.9 s each: 3 s
5 of 256 MiB                          pageable 3.5 s (the cap, and the warm-up), page-locked 1.5 s: 14 s
4 of 16 MiB                           1 to 3 s each: 8 s
4 of 2 GiB                            pageable: 5 calls of each contestant, 4 to 9 s; page-locked 3 s; and 1 s
                                      for locking 2 GiB in each of them: 15 to 25 s
====================================  =========================================================================

Together 65 to 75 s.
"""

from __future__ import annotations

import contextlib
import importlib
import os
from functools import partial
from typing import TYPE_CHECKING, Any

from benchmarks.case import Case, Reference
from benchmarks.names import library, ndarray, tensor, verb

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["CASES", "DEVICE", "SIZES"]

SIZES = {"16mib": ("16 MiB", 1 << 24), "256mib": ("256 MiB", 1 << 28), "2gib": ("2 GiB", 1 << 31)}
"""Suffix of the names and ids -> the size in words, and in bytes."""

SLOW, SLOW_ROUNDS = "2gib", 3
"""The size of which a call may take more than a second, and the rounds that are taken all the same."""

SIDE = 8

WAIT = "torch.cuda.synchronize()"


def _handoffs(
    name: str, end: str = "", note: str = "8x8, one stream", scope: str = "", others: tuple[str, str] = ("", "")
) -> tuple[Case, ...]:
    """Return both directions for arrays whose names end so; `others` are what is there for comparison only, in each direction."""
    ways = (
        ("torch-to-cupy", "A tensor, handed to CuPy", "to_cupy({})", "cupy.from_dlpack({})", "t"),
        ("cupy-to-torch", "A CuPy array, handed to torch", "to_torch({})", "torch.from_dlpack({})", "c"),
    )
    return tuple(
        Case(
            f"gpu-{way}{name}",
            f"{title}, {note}",
            call.format(array + end),
            (Reference(raw.format(array + end), budget=1.1), *([Reference(other)] if other else [])),
            note=note,
            scope=scope,
            drain=WAIT,
        )
        for (way, title, call, raw, array), other in zip(ways, others, strict=True)
    )


# Both take the CUDA Array Interface. torch exports its version 2, which has no stream (torch/_tensor.py), and ignores the stream in
# CuPy's (torch/csrc/utils/tensor_numpy.cpp reads shape, typestr, data and strides).
UNORDERED = ("cupy.asarray(t)", "torch.as_tensor(c)")

HANDOFFS = (
    *_handoffs("", others=UNORDERED),
    *_handoffs(
        "-streams",
        note="8x8, two streams; cupy.asarray and torch.as_tensor order nothing",
        scope="two_streams()",
        others=UNORDERED,
    ),
    *_handoffs("-256mib", "_256mib", note="256 MiB, one stream"),
)


def _transfer(id: str, title: str, call: str, *references: Reference, size: str) -> Case:  # noqa: A002 - the field's name
    words, nbytes = SIZES[size]
    return Case(
        f"{id}-{size}",
        f"{title}, {words}",
        call,
        references,
        note=words,
        # torch fills and empties page-locked buffers with all its threads, as it does by default.
        scope="all_cores()",
        tail=WAIT,
        one_is_enough=any(reference.budget for reference in references),
        bytes=nbytes,
        least=SLOW_ROUNDS if size == SLOW else None,
    )


def _to_pageable(size: str) -> Case:
    a_third, most_of_it = (round(1 / 3, 3), round(1 / 0.85, 3)) if size == "256mib" else (None, None)
    return _transfer(
        "gpu-to-pageable",
        "A tensor, moved to pageable memory: a third of the time, or 85 % of what page-locked memory allows",
        f'to_numpy(t_{size}, device="cpu")',
        Reference(f"t_{size}.cpu().numpy()", budget=a_third),
        Reference(f"pinned_{size}.copy_(t_{size})", budget=most_of_it),
        size=size,
    )


def _to_pinned(size: str) -> Case:
    return _transfer(
        "gpu-to-pinned",
        "A tensor, moved to page-locked memory",
        f'to_numpy(t_{size}, device="cpu", blocking=False).result()',
        Reference(f"pinned_{size}.copy_(t_{size})"),
        size=size,
    )


def _from_pageable(size: str) -> Case:
    return _transfer(
        "gpu-from-pageable",
        "An ndarray, moved to torch from pageable memory",
        f'to_torch(a_{size}, device="cuda")',
        Reference(f'torch.from_numpy(a_{size}).to("cuda")'),
        Reference(f"there_{size}.copy_(pinned_{size})"),
        size=size,
    )


def _from_pinned(size: str) -> Case:
    return _transfer(
        "gpu-from-pinned",
        "A tensor in page-locked memory, moved to the device",
        f'to_torch(pinned_{size}, device="cuda")',
        Reference(f"there_{size}.copy_(pinned_{size})"),
        size=size,
    )


def _all_ways(size: str) -> tuple[Case, ...]:
    return _to_pageable(size), _from_pageable(size), _to_pinned(size), _from_pinned(size)


CUPY = (
    _transfer(
        "gpu-cupy-to-pageable",
        "A CuPy array, moved to NumPy",
        'to_numpy(c_256mib, device="cpu")',
        Reference("cupy.asnumpy(c_256mib)"),
        size="256mib",
    ),
    _transfer(
        "gpu-cupy-from-pageable",
        "An ndarray, moved to CuPy",
        'to_cupy(a_256mib, device="cuda")',
        Reference("cupy.asarray(a_256mib)"),
        size="256mib",
    ),
)


def _small(id: str, title: str, call: str, reference: str) -> Case:  # noqa: A002 - the field's name
    return Case(id, f"{title}, 8x8", call, (Reference(reference),), note="8x8", tail=WAIT)


SMALL = (
    _small("gpu-to-host", "A tensor, moved to NumPy", 'to_numpy(t, transfer="allow")', "t.cpu().numpy()"),
    _small("host-to-gpu", "An ndarray, moved to torch", 'to_torch(a, device="cuda")', 'torch.from_numpy(a).to("cuda")'),
    _small("gpu-cupy-to-host", "A CuPy array, moved to NumPy", 'to_numpy(c, device="cpu")', "cupy.asnumpy(c)"),
)

TREE = Case(
    "gpu-tree",
    "Many small tensors, moved to NumPy in one transfer",
    'tree.convert(smalls, "numpy", device="cpu")',
    (Reference('[to_numpy(x, device="cpu") for x in smalls]', budget=0.1), Reference("[x.cpu().numpy() for x in smalls]")),
    note="1,000 tensors of 64 elements",
    tail=WAIT,
)

_256 = _all_ways("256mib")

CASES: tuple[Case, ...] = (*HANDOFFS, _256[0], TREE, *SMALL, *_256[1:], *CUPY, *_all_ways("16mib"), *_all_ways("2gib"))


@contextlib.contextmanager
def _all_cores() -> Iterator[None]:
    """Give torch every core, as it has by default; the other cases have one, which is steadier."""
    torch = importlib.import_module("torch")
    before = torch.get_num_threads()
    torch.set_num_threads(os.cpu_count() or 1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def _two_streams() -> Iterator[None]:
    """Make one stream torch's current one and another one CuPy's; neither waits for the default stream on its own."""
    torch, cupy = importlib.import_module("torch"), importlib.import_module("cupy")
    torch.cuda.synchronize()  # the arrays were made on the default stream
    with torch.cuda.stream(torch.cuda.Stream()), cupy.cuda.Stream(non_blocking=True):
        yield


def _tensor(nbytes: int, **where: Any) -> Any:
    """Return a float32 tensor; what is in it does not matter to a copy."""
    torch = importlib.import_module("torch")
    return torch.empty(nbytes // 4, dtype=torch.float32, **where)


def _cupy_array(nbytes: int) -> Any:
    return importlib.import_module("cupy").empty(nbytes // 4, "float32")


def _written(nbytes: int) -> Any:
    """Return an ndarray that has been written to: all pages of an untouched one are the same page of zeros, which the cache holds."""
    return importlib.import_module("numpy").ones(nbytes // 4, "float32")


def _of_size(size: str, nbytes: int) -> dict[str, Callable[[], Any]]:
    """Return the makers for one size."""
    return {
        f"a_{size}": partial(_written, nbytes),
        f"t_{size}": partial(_tensor, nbytes, device="cuda"),
        f"c_{size}": partial(_cupy_array, nbytes),
        f"there_{size}": partial(_tensor, nbytes, device="cuda"),
        f"pinned_{size}": partial(_tensor, nbytes, pin_memory=True),
    }


DEVICE: dict[str, Callable[[], Any]] = {
    **{name: verb(name) for name in ("to_cupy", "to_numpy", "to_torch")},
    "torch": library("torch"),
    "cupy": library("cupy"),
    "a": partial(ndarray, SIDE),
    "t": lambda: tensor(SIDE).cuda(),
    "c": lambda: importlib.import_module("cupy").zeros((SIDE, SIDE), "float32"),
    **{name: make for size, (_, nbytes) in SIZES.items() for name, make in _of_size(size, nbytes).items()},
    "tree": library("interop.tree"),
    "all_cores": lambda: _all_cores,
    "two_streams": lambda: _two_streams,
    "smalls": lambda: [tensor(SIDE).cuda() for _ in range(1000)],
}
"""NumPy `a` and the page-locked tensor `pinned` on the host; torch `t` and `there` and CuPy `c` on the device; `smalls`, a list of tensors."""
