"""`assert_no_crossings`: what counts, what goes past interop, and the table."""

import contextlib

import numpy as np
import pytest
import torch

import interop
from interop import GradError, TransferError
from interop.backends import load_backend
from interop.testing import assert_no_crossings

STRICT = load_backend("array_api_strict").namespace()
NATIVE = pytest.mark.parametrize("native", [True, False])


@NATIVE
def test_work_within_a_library_crosses_nothing(native):
    with assert_no_crossings(native=native) as log:
        x = interop.to_numpy(np.ones(3), copy=True) * 2
        y = interop.to_torch(torch.ones(3, requires_grad=True)) @ torch.ones(3)
        y.backward()
        interop.to_numpy(x, dtype="float32")
        interop.convert(STRICT.ones(2, device=STRICT.Device("device1")), "array_api_strict", copy=True)
    assert [(one.source.backend, one.target) for one in log.crossings] == [("numpy", "numpy")] * 2 + [("array_api_strict",) * 2]


@NATIVE
@pytest.mark.parametrize("copy", [None, True])
def test_another_library_is_a_crossing_shared_or_not(native, copy):
    def block():
        interop.to_torch(np.ones(3), copy=copy)
        interop.to_numpy(np.ones(3), copy=True)

    with pytest.raises(AssertionError) as caught, assert_no_crossings(native=native):
        block()
    lines = str(caught.value).splitlines()
    assert lines[0] == "assert_no_crossings: 1 array left its library or its device"
    assert lines[1].split() == ["from", "to", "copied", "at", "why"]
    assert lines[2].startswith("numpy float64[3] on cpu  torch on cpu")
    assert "test_crossings.py:" in lines[2]
    assert len(lines) == 4  # the copy within NumPy is not in the table


def test_a_transfer_is_a_crossing():
    def block():
        interop.convert(np.ones(3), "array_api_strict", device="device1")
        interop.to_numpy(torch.ones(3, requires_grad=True), grad="detach")

    table = r"2 arrays left(.|\n)*array_api_strict on ext:1(.|\n)*torch float32\[3\] on cpu"
    with pytest.raises(AssertionError, match=table), assert_no_crossings(native=False):
        block()
    with pytest.raises(AssertionError, match=r"something was about to leave.*device='device1'") as caught, assert_no_crossings():
        block()
    assert isinstance(caught.value.__cause__, TransferError)


def test_the_table_has_what_crossed_before_the_guard_stepped_in():
    def block():
        interop.to_torch(np.ones(3))
        interop.convert(np.ones(3), "array_api_strict", device="device1")

    with pytest.raises(AssertionError, match=r"about to leave(.|\n)*numpy float64\[3\] on cpu  torch on cpu"), assert_no_crossings():
        block()


@pytest.mark.parametrize(
    ("error", "leave"),
    [
        (TransferError, lambda: torch.ones(2).to("meta")),
        (GradError, lambda: torch.ones(2, requires_grad=True).detach().numpy()),
    ],
)
def test_what_goes_past_interop_is_seen_where_the_library_shows_it(error, leave):
    with pytest.raises(AssertionError) as caught, assert_no_crossings():
        leave()
    assert isinstance(caught.value.__cause__, error)
    with assert_no_crossings(native=False):  # the negative control
        leave()


def test_other_errors_of_the_block_stay():
    with pytest.raises(ZeroDivisionError), assert_no_crossings():
        _ = 1 / 0


def test_a_refusal_that_the_block_expects_is_no_crossing():
    with assert_no_crossings(), contextlib.suppress(GradError):
        interop.to_numpy(torch.ones(2, requires_grad=True))
