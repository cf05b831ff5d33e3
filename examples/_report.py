"""The figure: the photographs before and after, the confusion matrix, and the digits that were taken for others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure  # not pyplot: a Figure by itself draws with Agg, and opens no window
from sklearn.metrics import confusion_matrix

if TYPE_CHECKING:
    from pathlib import Path

    from _digits import Outcome
    from _photographs import Photograph

__all__ = ["draw"]

DOTS_PER_INCH = 120
SHOWN = 12


def draw(path: Path, photographs: list[Photograph], outcome: Outcome) -> None:
    """Write the figure to `path`."""
    figure = Figure(figsize=(11, 14), layout="constrained", dpi=DOTS_PER_INCH)
    above, below = figure.subfigures(2, 1, height_ratios=[1.55, 1])
    _draw_photographs(above, photographs)
    left, right = below.subfigures(1, 2, width_ratios=[1.15, 1])
    _draw_confusion(left, outcome)
    _draw_doubtful(right, outcome)
    figure.savefig(path)


def _draw_photographs(figure: Any, photographs: list[Photograph]) -> None:
    figure.suptitle("Photographs: read with OpenCV, filtered in torch, back in NumPy", fontsize=14)
    grid = figure.subplots(len(photographs), 3)
    titles = ("before", "sharpened (unsharp mask)", "edges (Sobel)")
    for row, photograph in zip(grid, photographs, strict=True):
        pictures = (photograph.before, photograph.sharpened, photograph.edges)
        for axes, picture in zip(row, pictures, strict=True):
            axes.imshow(picture, cmap="gray")
            axes.set(xticks=[], yticks=[])
        row[0].set_ylabel(photograph.name, fontsize=12)
    for axes, title in zip(grid[0], titles, strict=True):
        axes.set_title(title, fontsize=12)


def _draw_confusion(figure: Any, outcome: Outcome) -> None:
    counts = confusion_matrix(outcome.table["label"], outcome.table["predicted"], labels=range(10))
    figure.suptitle(f"Digits: accuracy {outcome.accuracy:.4f} on {len(outcome.table)} test images", fontsize=14)
    axes = figure.subplots()
    axes.imshow(counts, cmap="Blues")
    axes.set(xticks=range(10), yticks=range(10), xlabel="predicted", ylabel="label")
    for (row, column), count in _filled(counts):
        axes.text(column, row, count, ha="center", va="center", color="white" if count > counts.max() / 2 else "firebrick")


def _filled(counts: Any) -> list[tuple[tuple[int, int], int]]:
    return [((row, column), counts[row, column]) for row, column in zip(*counts.nonzero(), strict=True)]


def _draw_doubtful(figure: Any, outcome: Outcome) -> None:
    """Draw the digits that were mistaken, then those that were nearly so, by rising confidence."""
    # The table's index counts the images in their order, and sorting keeps it.
    ranked = outcome.table.sort_values(["correct", "confidence"]).head(SHOWN)
    figure.suptitle("Mistaken, then least certain", fontsize=14)
    for axes, position in zip(figure.subplots(3, SHOWN // 3).flat, ranked.index, strict=True):
        entry = ranked.loc[position]
        axes.imshow(outcome.images[position], cmap="gray_r")
        axes.set(xticks=[], yticks=[])
        words = f"{entry['label']} taken for {entry['predicted']}" if not entry["correct"] else f"{entry['label']}"
        axes.set_title(f"{words}\n{entry['confidence']:.0%} sure", fontsize=9, color="black" if entry["correct"] else "firebrick")
