"""The example runs as a user runs it: in its own process, warnings as errors, and what it claims is checked here."""

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_digits, load_sample_image

import interop

EXAMPLES = Path(__file__).parents[2] / "examples"
PICTURES = [f"photographs/{name}{kind}.png" for name in ("china", "flower", "chelsea") for kind in ("", "-sharpened", "-edges")]
TEST_DIGITS = 450
NO_GPU = {"CUDA_VISIBLE_DEVICES": ""}


def run_example(*arguments, **environment):
    command = [sys.executable, "-W", "error", EXAMPLES / "image_pipeline.py", *arguments]
    return subprocess.run(command, capture_output=True, encoding="utf-8", env={**os.environ, **environment}, check=False)


class Run(NamedTuple):
    output: Path
    stdout: str
    table: dict[str, list[str]]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    output = tmp_path_factory.mktemp("example") / "made" / "by it"
    done = run_example("--output", output, "--epochs", "8", **NO_GPU)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return Run(output, done.stdout, crossings(done.stdout))


def crossings(stdout):
    """The printed table as {what: [from -> to, memory, bytes, copied, why]}."""
    lines = stdout.splitlines()
    start = next(n for n, line in enumerate(lines) if line.startswith("what "))
    rows = [re.split(r" {2,}", line) for line in lines[start + 2 : lines.index("", start)]]
    return {row[0]: row[1:] for row in rows}


EXPECTED = {
    "china.png: BGR, as OpenCV reads it": ("shared", "same bytes"),
    "china.png: RGB, by a negative stride": ("copied", "negative strides"),
    "china: as its package hands it out": ("copied", "read-only"),
    "chelsea: as its package hands it out": ("shared", "same bytes"),
    "photographs: float32, NHWC seen as NCHW": ("shared", "same bytes"),
    "sharpened: uint8, NCHW seen as NHWC": ("shared", "same bytes"),
    "training digits: float32, copy=False": ("shared", "same bytes"),
    "test labels: a column, readonly='share'": ("shared", "same bytes"),
    "logits of the network in bfloat16": ("shared", "same bytes"),
    "logits: with **error.permissions": ("shared", "grad='detach'"),
}


@pytest.mark.parametrize("what", EXPECTED)
def test_crossing_is_shared_or_copied_as_the_memory_demands(finished, what):
    memory, why = EXPECTED[what]
    assert finished.table[what][1] == memory
    assert why in finished.table[what][4]


def test_only_copies_cost_bytes(finished):
    for _, memory, nbytes, copied, _ in finished.table.values():
        assert copied == ("0" if memory == "shared" else nbytes)


def test_bfloat16_stays_bfloat16_in_numpy(finished):
    assert finished.table["logits of the network in bfloat16"][0] == "torch bfloat16 cpu -> numpy bfloat16 cpu"


def test_refusal_is_printed_with_the_call_that_would_succeed(finished):
    assert "- [grad] autograd tracks the source" in finished.stdout
    assert "Hint: write to_numpy(x, grad='detach')" in finished.stdout


def test_predictions_agree_with_the_printed_accuracy_and_with_the_data_set(finished):
    table = pd.read_csv(finished.output / "predictions.csv")
    assert list(table.columns) == ["image", "label", "predicted", "confidence", "correct"]
    assert len(table) == TEST_DIGITS
    assert table["image"].is_unique
    np.testing.assert_array_equal(table["label"], load_digits().target[table["image"]])
    right = table["label"] == table["predicted"]
    assert (right == table["correct"]).all()
    assert table["confidence"].between(0.1, 1).all()
    assert f"test accuracy: {right.mean():.4f} ({right.sum()} of {TEST_DIGITS} digits)" in finished.stdout
    assert right.mean() > 0.95


@pytest.mark.parametrize("name", ["report.png", *PICTURES])
def test_picture_is_readable_and_shows_something(finished, name):
    picture = cv2.imread(str(finished.output / name), cv2.IMREAD_UNCHANGED)
    assert min(picture.shape[:2]) >= 300
    assert picture.std() > 10


def test_photograph_in_the_file_has_its_own_colours(finished):
    from_file = cv2.cvtColor(cv2.imread(str(finished.output / "photographs" / "china.png")), cv2.COLOR_BGR2RGB)
    np.testing.assert_array_equal(from_file, load_sample_image("china.jpg"))


def test_sharpened_photograph_keeps_its_colours_and_gains_detail(finished):
    """A slip in the channel order would move the means; a slip in the axes would tear the picture up."""
    before, after = (cv2.imread(str(finished.output / "photographs" / f"flower{kind}.png")) for kind in ("", "-sharpened"))
    before = cv2.resize(before[:, 35:604], (400, 300), interpolation=cv2.INTER_AREA)
    np.testing.assert_allclose(after.mean(axis=(0, 1)), before.mean(axis=(0, 1)), atol=2)
    assert np.corrcoef(before.ravel(), after.ravel())[0, 1] > 0.97
    assert cv2.Laplacian(after, cv2.CV_64F).var() > 1.5 * cv2.Laplacian(before, cv2.CV_64F).var()


def test_output_that_cannot_be_written_is_one_clean_line(tmp_path):
    (tmp_path / "taken").write_text("a file, not a folder")
    done = run_example("--output", tmp_path / "taken" / "below", **NO_GPU)
    assert done.returncode == 1
    assert done.stdout == ""
    assert re.fullmatch(r"image_pipeline: cannot write to .*below: Not a directory\n", done.stderr)


def test_epochs_below_one_are_wrong_use(tmp_path):
    done = run_example("--output", tmp_path / "unused", "--epochs", "0", **NO_GPU)
    assert done.returncode == 2
    assert "a whole number from 1 upwards is needed, got '0'" in done.stderr
    assert not (tmp_path / "unused").exists()


@pytest.mark.parametrize("truth", [True, False])
def test_border_notices_a_plan_that_lies_about_the_memory(monkeypatch, truth):
    monkeypatch.syspath_prepend(EXAMPLES)
    border = importlib.import_module("_border").Border()
    monkeypatch.setattr(interop, "shares_memory", lambda *_: truth)
    if truth:
        border.to_torch("honest", np.zeros(3))
        assert [crossing.what for crossing in border.crossings] == ["honest"]
    else:
        with pytest.raises(RuntimeError, match="lie: the plan did not tell the truth"):
            border.to_torch("lie", np.zeros(3))
