"""Packed elements: they mean something to torch alone, which takes them from a producer as they are."""

import pytest
import torch

from interop import DTypeError, convert, describe, explain, to_numpy, to_torch

FLOAT4 = getattr(torch, "float4_e2m1fn_x2", None)
pytestmark = pytest.mark.skipif(FLOAT4 is None, reason="needs a torch with packed float4")


class Producer:
    """A class of the user's own around a tensor."""

    def __init__(self, held):
        self.held = held

    def __dlpack__(self, **asked):
        return self.held.__dlpack__(**asked)

    def __dlpack_device__(self):
        return self.held.__dlpack_device__()


def packed():
    return torch.arange(6, dtype=torch.uint8).reshape(2, 3).view(FLOAT4)


def test_torch_shares_what_it_can_read_alone():
    held = packed()
    plan = explain(Producer(held), "torch")
    assert plan.shares_memory
    for result in (to_torch(Producer(held)), to_torch(Producer(held), copy=False), convert(Producer(held), like=torch.ones(1))):
        assert result.dtype is FLOAT4
        assert result.data_ptr() == held.data_ptr()
        assert result.view(torch.uint8).tolist() == [[0, 1, 2], [3, 4, 5]]


def test_a_copy_is_one_of_the_bytes():
    held = packed()
    result = to_torch(Producer(held), copy=True)
    assert result.data_ptr() != held.data_ptr()
    assert result.view(torch.uint8).tolist() == [[0, 1, 2], [3, 4, 5]]


def test_within_torch_it_is_itself():
    held = packed()
    assert to_torch(held) is held


@pytest.mark.parametrize("words", [{}, {"policy": "coerce"}, {"dtype": "float32"}])
def test_for_others_there_is_no_dtype(words):
    for x in (Producer(packed()), packed()):
        with pytest.raises(DTypeError):
            to_numpy(x, **words)


def test_as_another_dtype_there_are_no_numbers():
    with pytest.raises(DTypeError):
        to_torch(Producer(packed()), dtype="float32")
    assert describe(Producer(packed())).dtype == "packed float4_e2m1fnx2"
