"""Handwritten digits: a pandas table in, a small convolutional network in torch, a table of predictions out.

The digits are scikit-learn's own copy of the UCI set: 1797 images of 8 x 8 pixels, with values from 0 to 16.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

import interop

if TYPE_CHECKING:
    from _border import Border

__all__ = ["Outcome", "classify_digits"]

SEED = 0
BATCH = 64
LEARNING_RATE = 3e-3


@dataclass
class Outcome:
    """What came of it: one row for each test digit, and the digits themselves in the same order (N x 8 x 8)."""

    table: pd.DataFrame
    images: np.ndarray
    bfloat16_accuracy: float

    @property
    def accuracy(self) -> float:
        """The share of the test digits that was recognised."""
        return float(self.table["correct"].mean())

    def __str__(self) -> str:
        right, count = int(self.table["correct"].sum()), len(self.table)
        return f"test accuracy: {self.accuracy:.4f} ({right} of {count} digits); in bfloat16: {self.bfloat16_accuracy:.4f}"


def classify_digits(border: Border, device: str, epochs: int) -> Outcome:
    """Train on three quarters of the digits, predict the rest."""
    frame = load_digits(as_frame=True).frame
    train, test = train_test_split(frame, test_size=0.25, stratify=frame["target"], random_state=SEED)
    model = _train(*_training_set(border, train, device), epochs)
    images = _pixels(test)
    batch = border.to_torch("test digits: float32", images, device=device)
    logits = model(batch)
    predicted = border.to_numpy("predictions: argmax, outside the graph", logits.argmax(dim=1), device="cpu")
    table = _table(test, predicted, _probabilities(border, logits))
    return Outcome(table, images[:, 0], _accuracy_in_bfloat16(border, model, batch, test))


def _training_set(border: Border, train: pd.DataFrame, device: str) -> tuple[Any, Any]:
    # copy=False: a training set may be large, so rather an error than a second one in the same memory.
    batch = border.to_torch("training digits: float32, copy=False", _pixels(train), device=device, copy=False)
    # A column of pandas 3 is read-only and torch has no such thing, so by default it is copied.
    return batch, border.to_torch("training labels: a column of pandas", train["target"].to_numpy(), device=device)


def _pixels(frame: pd.DataFrame) -> np.ndarray:
    """Return the pixels as N x 1 x 8 x 8, scaled to 0 to 1."""
    return (frame.drop(columns="target").to_numpy(dtype="float32") / 16).reshape(-1, 1, 8, 8)


def _network() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 16, kernel_size=3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, kernel_size=3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32 * 4 * 4, 10),
    )


def _train(images: Any, labels: Any, epochs: int) -> nn.Sequential:
    torch.manual_seed(SEED)
    model = _network().to(images.device)
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
    for epoch in range(1, epochs + 1):
        total = 0.0
        for chosen in torch.randperm(len(images)).to(images.device).split(BATCH):
            loss = nn.functional.cross_entropy(model(images[chosen]), labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(chosen)
        if epoch in (1, epochs):
            print(f"  epoch {epoch} of {epochs}: training loss {total / len(images):.4f}")
    return model


def _probabilities(border: Border, logits: Any) -> np.ndarray:
    """Bring the logits to NumPy: refused as they stand, because they hang in autograd's graph; then permitted by name."""
    try:
        values = interop.to_numpy(logits)
    except interop.GradError as refusal:
        print("\nA refusal, on purpose: to_numpy(logits) answers\n")
        print("\n".join(f"  | {line}".rstrip() for line in str(refusal).splitlines()))
        print(f"\n  so the call is made again with **error.permissions, here {refusal.permissions}.\n")
        values = border.to_numpy("logits: with **error.permissions", logits, **refusal.permissions)
    powers = np.exp(values - values.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def _accuracy_in_bfloat16(border: Border, model: nn.Sequential, batch: Any, test: pd.DataFrame) -> float:
    """Run the network again in bfloat16, which NumPy knows through ml_dtypes (torch's own .numpy() refuses it)."""
    with torch.inference_mode():
        logits = deepcopy(model).bfloat16()(batch.bfloat16())
    values = border.to_numpy("logits of the network in bfloat16", logits, device="cpu")
    # It is only compared, never written to, so the read-only column may be shared.
    labels = border.to_torch("test labels: a column, readonly='share'", test["target"].to_numpy(), readonly="share")
    predicted = border.to_torch("predictions in bfloat16", values.argmax(axis=1))
    return (predicted == labels).double().mean().item()


def _table(test: pd.DataFrame, predicted: np.ndarray, probabilities: np.ndarray) -> pd.DataFrame:
    label = test["target"].to_numpy()
    # "image" is the row of the data set that the digit came from.
    columns = {"image": test.index, "label": label, "predicted": predicted}
    confidence = probabilities.max(axis=1).round(4)
    return pd.DataFrame(columns | {"confidence": confidence, "correct": label == predicted})
