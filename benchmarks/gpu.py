"""The benchmarks on a CUDA device: ``python -m benchmarks.gpu [--output FILE] [--quick] [--only ID]``; status 3 without a device.

A handoff between torch and CuPy is work of the host (describing, ordering two streams), so nothing is waited for inside the
timed loop; the device is drained between the rounds, so that its queue does not push back. A transfer is over when
the data have arrived, so there every contestant waits for the device.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

from benchmarks.case import Case, Reference
from benchmarks.environment import NoDeviceError, gpu_environment
from benchmarks.names import library, ndarray, tensor, verb
from benchmarks.run import arguments, chosen, finish, tell
from benchmarks.runner import measure
from benchmarks.timing import FULL, QUICK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

__all__ = ["CASES", "DEVICE", "NO_DEVICE", "main"]

NO_DEVICE = 3
"""The exit status where there is no device."""

SIZES = {"": "8x8", "large_": "256 MiB"}
"""Prefix of the names -> the size in words."""

SIDE, LARGE_SIDE = 8, 8192

WAIT = "torch.cuda.synchronize()"


def _cases(prefix: str, size: str) -> tuple[Case, ...]:
    """Return the cases for one size."""
    a, c, t = (f"{prefix}{name}" for name in "act")
    end = f"-{prefix.rstrip('_')}" if prefix else ""

    def handoff(name: str, title: str, call: str, reference: str) -> Case:
        return Case(f"{name}{end}", f"{title}, {size}", call, (Reference(reference, budget=1.1),), note=size, settle=WAIT)

    def crossing(name: str, title: str, call: str, reference: str) -> Case:
        return Case(f"{name}{end}", f"{title}, {size}", call, (Reference(reference),), note=size, tail=WAIT)

    return (
        handoff("gpu-torch-to-cupy", "A tensor, handed to CuPy", f"to_cupy({t})", f"cupy.from_dlpack({t})"),
        handoff("gpu-cupy-to-torch", "A CuPy array, handed to torch", f"to_torch({c})", f"torch.from_dlpack({c})"),
        crossing("host-to-gpu", "An ndarray, moved to torch", f'to_torch({a}, device="cuda")', f'torch.from_numpy({a}).to("cuda")'),
        crossing("gpu-cupy-to-host", "A CuPy array, moved to NumPy", f'to_numpy({c}, device="cpu")', f"cupy.asnumpy({c})"),
    )


def _to_host() -> tuple[Case, ...]:
    """Return the crossings to the host for which a speed is promised, and what they are made of."""
    small = Case(
        "gpu-to-host",
        "A tensor, moved to NumPy, 8x8",
        'to_numpy(t, transfer="allow")',
        (Reference("t.cpu().numpy()"),),
        note="8x8",
        tail=WAIT,
    )
    large = Case(
        "gpu-to-host-large",
        "A tensor, moved to pageable memory: a third of the time, or 85 % of what page-locked memory allows",
        'to_numpy(large_t, device="cpu")',
        (Reference("large_t.cpu().numpy()", budget=round(1 / 3, 3)), Reference("pinned.copy_(large_t)", budget=round(1 / 0.85, 3))),
        note=SIZES["large_"],
        scope="all_cores()",
        tail=WAIT,
        one_is_enough=True,
    )
    later = Case(
        "gpu-to-host-later",
        "A tensor, moved to page-locked memory",
        'to_numpy(large_t, device="cpu", blocking=False).result()',
        (Reference("pinned.copy_(large_t)"),),
        note=SIZES["large_"],
        tail=WAIT,
    )
    many = Case(
        "gpu-tree",
        "Many small tensors, moved to NumPy in one transfer",
        'tree.convert(smalls, "numpy", device="cpu")',
        (Reference('[to_numpy(x, device="cpu") for x in smalls]', budget=0.1), Reference("[x.cpu().numpy() for x in smalls]")),
        note="1,000 tensors of 64 elements",
        tail=WAIT,
    )
    return small, large, later, many


CASES: tuple[Case, ...] = (*(case for prefix, size in SIZES.items() for case in _cases(prefix, size)), *_to_host())


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


def _cupy_array(side: int) -> Any:
    return importlib.import_module("cupy").zeros((side, side), "float32")


def _cuda_tensor(side: int) -> Any:
    return tensor(side).cuda()


DEVICE: dict[str, Callable[[], Any]] = {
    **{name: verb(name) for name in ("to_cupy", "to_numpy", "to_torch")},
    "torch": library("torch"),
    "cupy": library("cupy"),
    "a": partial(ndarray, SIDE),
    "large_a": partial(ndarray, LARGE_SIDE),
    "t": partial(_cuda_tensor, SIDE),
    "large_t": partial(_cuda_tensor, LARGE_SIDE),
    "c": partial(_cupy_array, SIDE),
    "large_c": partial(_cupy_array, LARGE_SIDE),
    "pinned": lambda: tensor(LARGE_SIDE).pin_memory(),
    "tree": library("interop.tree"),
    "all_cores": lambda: _all_cores,
    "smalls": lambda: [_cuda_tensor(SIDE) for _ in range(1000)],
}
"""NumPy `a` on the host; torch `t` and CuPy `c` on the device; `pinned`, a page-locked tensor of the host; `smalls`, a list of tensors."""


def main(argv: Sequence[str] | None = None, probe: Callable[[], dict[str, Any]] = gpu_environment) -> int:
    """Measure everything on the device; returns the exit status."""
    given = arguments(argv, "python -m benchmarks.gpu")
    try:
        facts = probe()
    except NoDeviceError as error:
        print(f"no CUDA device: {error}", file=sys.stderr)
        return NO_DEVICE
    return finish(measure(chosen(CASES, given.only), DEVICE, QUICK if given.quick else FULL, tell), facts, given.output)


if __name__ == "__main__":
    raise SystemExit(main())
