"""Run every training: ``python -m examples.autograd``."""

from __future__ import annotations

from examples.autograd import fft_filter, ode, raw_kernel, sparse_solve
from examples.autograd._training import HEAD, line

EXAMPLES = (sparse_solve, fft_filter, ode, raw_kernel)


def main() -> None:
    """Print one table."""
    print(f"{'example':<12}  {HEAD}")
    for example in EXAMPLES:
        print(f"{example.__name__.rpartition('.')[2]:<12}  {line(example.train)}", flush=True)


if __name__ == "__main__":
    main()
