"""From NumPy to torch and back on real data: photographs are filtered, handwritten digits recognised.

Run it with ``make demo``, or ``python examples/image_pipeline.py --output demo-output``. It needs no network and
no GPU, and uses one where torch sees one. Every crossing between the libraries goes through interop; a table at
the end shows which of them shared memory, which had to copy, and why.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

EPOCHS = 15
# The pictures are small, so a second thread saves nothing; and where the system puts both on one core, they wait for
# each other at every operation: of a few runs with two threads one took 36 seconds, and the others six.
THREADS = 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the pipeline; return the exit status."""
    options = _options(arguments)
    try:
        _prepare(options.output)
        run(options.output, options.epochs)
    except OSError as error:
        print(f"image_pipeline: {error}", file=sys.stderr)
        return 1
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Filter photographs and recognise digits, across NumPy and torch.")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="where to write; made if missing")
    parser.add_argument("--epochs", type=_positive, default=EPOCHS, metavar="N", help="of training (default: %(default)s)")
    return parser.parse_args(arguments)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"a whole number from 1 upwards is needed, got {text!r}")
    return int(text)


def _prepare(output: Path) -> None:
    """Make the folder, and write to it once: better to fail now than after the training."""
    try:
        output.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=output).close()
    except OSError as error:
        raise OSError(f"cannot write to {output}: {error.strerror}") from error


def run(output: Path, epochs: int) -> None:
    """Run every step, and print what it did."""
    # Imported here, so that wrong use is answered at once, and not after seconds of loading libraries.
    import torch
    from _border import Border
    from _digits import classify_digits
    from _photographs import filter_photographs, load_photographs, save_photographs
    from _report import draw

    torch.set_num_threads(THREADS)
    border, device = Border(), "cuda" if torch.cuda.is_available() else "cpu"
    print(f"Photographs, filtered in torch on {device}:")
    photographs = load_photographs(border, output / "photographs")
    filter_photographs(border, photographs, device)
    save_photographs(photographs, output / "photographs")

    print(f"\nDigits, recognised in torch on {device}:")
    outcome = classify_digits(border, device, epochs)
    print(f"  {outcome}")
    outcome.table.to_csv(output / "predictions.csv", index=False)
    draw(output / "report.png", photographs, outcome)

    print(f"\nWhat crossed between NumPy and torch, and how:\n\n{border.table()}")
    print(f"\nWritten to {output}: report.png, predictions.csv, photographs/")


if __name__ == "__main__":
    sys.exit(main())
