"""Run every example with every library that is installed here: ``python -m examples.neutral``."""

from __future__ import annotations

from examples.neutral import gp, kalman, kmeans, nms, numpy_only, pca, welch
from examples.neutral._runner import lines, show_missing

EXAMPLES = (pca, kmeans, welch, kalman, nms, gp, numpy_only)


def main() -> None:
    """Print one table, and a line for each library that had to be left out."""
    print(f"{'example':<10}  {'library':<16}  seconds  found")
    print(f"{'-' * 10}  {'-' * 16}  {'-' * 7}  {'-' * 5}")
    for example in EXAMPLES:
        name = example.__name__.rpartition(".")[2]
        for library, found, seconds in lines(example.report):
            print(f"{name:<10}  {library:<16}  {seconds:7.2f}  {found}")
    print()
    show_missing()


if __name__ == "__main__":
    main()
