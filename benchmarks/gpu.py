"""The benchmarks on a CUDA device: ``python -m benchmarks.gpu [--output FILE] [--quick] [--only ID]``; status 3 without a device.

A handoff between torch and CuPy is work of the host (describing, ordering two streams), so nothing is waited for inside the
timed loop; the device is drained between the rounds, so that its queue does not push back. A transfer is over when
the data have arrived, so there every contestant waits for the device.
"""

from __future__ import annotations

import importlib
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
    from collections.abc import Callable, Sequence

__all__ = ["CASES", "DEVICE", "NO_DEVICE", "main"]

NO_DEVICE = 3
"""The exit status where there is no device."""

SIZES = {"": "8x8", "large_": "64 MiB"}
"""Prefix of the names -> the size in words."""

SIDE, LARGE_SIDE = 8, 4096

WAIT = "torch.cuda.synchronize()"


def _cases(prefix: str, size: str) -> tuple[Case, ...]:
    """Return the cases for one size; all for information: no GPU budget has been promised yet."""
    a, c, t = (f"{prefix}{name}" for name in "act")
    end = f"-{prefix.rstrip('_')}" if prefix else ""

    def handoff(name: str, title: str, call: str, reference: str) -> Case:
        return Case(f"{name}{end}", f"{title}, {size}", call, (Reference(reference),), note=size, settle=WAIT)

    def crossing(name: str, title: str, call: str, reference: str) -> Case:
        return Case(f"{name}{end}", f"{title}, {size}", call, (Reference(reference),), note=size, tail=WAIT)

    return (
        handoff("gpu-torch-to-cupy", "A tensor, handed to CuPy", f"to_cupy({t})", f"cupy.from_dlpack({t})"),
        handoff("gpu-cupy-to-torch", "A CuPy array, handed to torch", f"to_torch({c})", f"torch.from_dlpack({c})"),
        crossing("gpu-to-host", "A tensor, moved to NumPy", f'to_numpy({t}, transfer="allow")', f"{t}.cpu().numpy()"),
        crossing("host-to-gpu", "An ndarray, moved to torch", f'to_torch({a}, device="cuda")', f'torch.from_numpy({a}).to("cuda")'),
    )


CASES: tuple[Case, ...] = tuple(case for prefix, size in SIZES.items() for case in _cases(prefix, size))


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
}
"""NumPy `a` on the host; torch `t` and CuPy `c` on the device."""


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
