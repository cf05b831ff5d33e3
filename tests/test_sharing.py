"""`shares_memory`: the bytes of the elements, not the extents, across libraries."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as stnp

import interop
from interop import Description, Device, UnsupportedTypeError, shares_memory, to_numpy, to_torch
from interop.backends.numpy.backend import overlap


def touched(view, base):
    """Return the bytes that a view covers, by writing: the independent path."""
    base.view("uint8")[:] = 0
    view[...] = np.array(-1).astype(view.dtype)
    return base.view("uint8") != 0


@settings(deadline=None)  # the first example loads torch
@given(st.data())
def test_against_writing(data):
    base = np.zeros(24, "int16")
    grid = base.reshape(4, 6)
    views = [grid[data.draw(stnp.basic_indices(grid.shape, allow_ellipsis=False))] for _ in range(2)]
    if not all(isinstance(view, np.ndarray) and view.size for view in views):
        return
    expected = bool((touched(views[0], base) & touched(views[1], base)).any())
    assert shares_memory(*views) == expected
    if all(step > 0 for step in views[1].strides):
        assert shares_memory(views[0], to_torch(views[1])) == expected


def test_interleaved_columns_do_not_overlap():
    tensor = torch.zeros(4, 2)
    first, second = tensor[:, 0], to_numpy(tensor[:, 1])
    assert not shares_memory(first, second)
    assert shares_memory(tensor, second)


def test_one_element_in_common():
    array = np.zeros(5, "float32")
    assert shares_memory(array[:3], to_torch(array[2:]))
    assert not shares_memory(array[:2], to_torch(array[2:]))


def test_other_dtypes_on_the_same_bytes():
    tensor = torch.ones(4, dtype=torch.bfloat16)
    assert shares_memory(tensor, to_numpy(tensor)[3:])
    assert shares_memory(tensor.view(torch.uint8)[6:], to_numpy(tensor)[3:])
    assert not shares_memory(tensor.view(torch.uint8)[:6], to_numpy(tensor)[3:])


def test_nothing_is_shared_by_what_has_no_memory():
    meta = torch.empty(2, device="meta")
    assert not shares_memory(meta, torch.ones(2))
    assert not shares_memory(np.zeros((0, 3)), np.zeros((0, 3)))
    assert shares_memory(torch.eye(2).to_sparse(), torch.eye(2).to_sparse()) is False
    sparse = torch.eye(2).to_sparse()
    assert shares_memory(sparse, sparse)


def test_which_argument_is_no_array():
    with pytest.raises(UnsupportedTypeError, match="second argument"):
        shares_memory(np.ones(2), [1, 2])


def test_addresses_on_other_devices_are_never_read():
    x = Description(backend="torch", shape=(4, 4), strides=(4, 1), dtype="float32", nbytes=64, pointer=4096, device=Device("cuda"))
    assert overlap(x, x.replace(pointer=4096 + 60))
    assert not overlap(x, x.replace(pointer=4096 + 64))


def test_odd_strides_within_another_librarys_array():
    table = np.zeros(3, dtype=[("flag", "u1"), ("x", "<f4"), ("y", "<f8")])
    x, y = (interop.convert(table[name], "array_api_strict") for name in "xy")
    assert shares_memory(x, table["x"])
    assert shares_memory(table["x"], x)
    assert not shares_memory(x, y)
