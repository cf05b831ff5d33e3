"""`assert_shares_memory`, `assert_copied` and `assert_source_untouched`: what they accept and what they catch."""

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import torch

import interop
from interop import LayoutError, MaskError, NoDataError
from interop.backends import load_backend
from interop.testing import assert_copied, assert_shares_memory, assert_source_untouched

STRICT = load_backend("array_api_strict").namespace()
A = np.arange(6.0).reshape(2, 3)

SHARED = {
    "itself": (A, A),
    "a view": (A, A[::-1, 1:]),
    "torch": (A, interop.to_torch(A)),
    "bfloat16": (torch.ones(3).bfloat16(), 0),
    "strict": (A, interop.convert(A, "array_api_strict")),
    "detached": (torch.ones(3, requires_grad=True), 1),
}
SHARED["bfloat16"] = (SHARED["bfloat16"][0], interop.to_numpy(SHARED["bfloat16"][0]))
SHARED["detached"] = (SHARED["detached"][0], SHARED["detached"][0].detach())

APART = {
    "a copy": (A, A.copy()),
    "interleaved": (A[:, 0], A[:, 1]),
    "torch": (A, interop.to_torch(A, copy=True)),
    "a scalar": (np.float64(2), A),
    "another device": (STRICT.asarray([1.0]), STRICT.asarray([1.0], device=STRICT.Device("device1"))),
    "empty": (np.ones((0, 2)), np.ones((0, 2))),
}


@pytest.mark.parametrize("pair", SHARED.values(), ids=SHARED)
def test_shared_memory_is_shared(pair):
    for a, b in (pair, pair[::-1]):
        assert_shares_memory(a, b)
        with pytest.raises(
            AssertionError, match=r"assert_copied: the result shares memory with its source\n  source: .*\n  result: .* bytes from 0x"
        ):
            assert_copied(a, b)


@pytest.mark.parametrize("pair", APART.values(), ids=APART)
def test_what_has_no_byte_in_common_is_a_copy(pair):
    for a, b in (pair, pair[::-1]):
        assert_copied(a, b)
        with pytest.raises(AssertionError, match="assert_shares_memory: a and b have no byte in common"):
            assert_shares_memory(a, b)


def test_both_say_where_the_arrays_lie():
    b = A.copy()
    with pytest.raises(AssertionError) as caught:
        assert_shares_memory(A, b)
    assert [line.partition(": ")[2] for line in str(caught.value).splitlines()[1:]] == [
        f"numpy.ndarray float64[2, 3] on cpu, 48 bytes from {x.ctypes.data:#x}" for x in (A, b)
    ]
    with pytest.raises(AssertionError, match="an array without elements has no byte to share"):
        assert_shares_memory(np.ones(0), A)
    with pytest.raises(AssertionError, match="a value without a buffer"):
        assert_shares_memory(np.float64(1), A)


@pytest.mark.parametrize("assertion", [assert_copied, assert_shares_memory])
@pytest.mark.parametrize(("x", "error"), [(torch.ones(2, device="meta"), NoDataError), (torch.ones(2).to_sparse(), LayoutError)])
def test_what_cannot_be_located_is_refused(assertion, x, error):
    """`assert_copied` would pass without having looked."""
    for pair in ((x, A), (A, x)):
        with pytest.raises(error):
            assertion(*pair)


# The source untouched.


def put_back(x):
    x[0] = x[0].clone()


def through_numpy(x):
    x.detach().numpy()[0] = 5.0


CHANGES = {
    "a value": (lambda: np.zeros(3), lambda x: x.__setitem__(1, 7.0), "values: 1 of 3 elements; first at [1]: before 0.0, after 7.0"),
    "the sign of zero": (lambda: np.zeros(3), lambda x: x.__imul__(-1), "values: 3 of 3 elements; first at [0]: before 0.0, after -0.0"),
    "a value in 2-d": (lambda: np.zeros((2, 3)), lambda x: x.__setitem__((1, 2), 7.0), "first at [1, 2]"),
    "a strided value": (lambda: np.zeros((3, 4))[::2, 1::2], lambda x: x.__setitem__((1, 1), 7.0), "1 of 4 elements; first at [1, 1]"),
    "an ml_dtypes value": (lambda: np.zeros(2, ml_dtypes.bfloat16), lambda x: x.__setitem__(0, 2), "before 0.0, after 2.0"),
    "a tensor's value": (lambda: torch.zeros(3), lambda x: x.add_(1), "values: 3 of 3 elements"),
    "the same value again": (lambda: torch.ones(3), put_back, "count of writes: before 0, after 1"),
    "past the counter": (lambda: torch.ones(3, requires_grad=True), through_numpy, "values: 1 of 3 elements"),
    "read-only": (lambda: np.zeros(3), lambda x: x.setflags(write=False), "readonly: before False, after True"),
    "requires_grad": (lambda: torch.zeros(3), lambda x: x.requires_grad_(), "requires_grad: before False, after True"),
    "the shape": (lambda: torch.zeros(4), lambda x: x.resize_(2, 2), "shape: before (4,), after (2, 2)"),
    "the strides": (lambda: torch.zeros(2, 3), lambda x: x.t_(), "strides: before (3, 1), after (1, 3)"),
    "the storage": (lambda: torch.zeros(3), lambda x: x.set_(torch.zeros(3)), "pointer: before 0x"),
    "a jax array deleted": (lambda: jnp.ones(3), lambda x: x.delete(), "no_data: before None, after deleted"),
    "a strict value": (lambda: STRICT.zeros(3), lambda x: x.__setitem__(0, 7.0), "values: 1 of 3 elements"),
}


@pytest.mark.parametrize("case", CHANGES.values(), ids=CHANGES)
def test_a_change_is_caught_and_named(case):
    make, change, message = case
    x = make()
    with pytest.raises(AssertionError) as caught, assert_source_untouched(x):
        change(x)
    assert message in str(caught.value)
    assert str(caught.value).startswith("assert_source_untouched: the block changed 1 of 1 arrays\narrays[0], ")


@pytest.mark.parametrize("case", CHANGES.values(), ids=CHANGES)
def test_reading_it_is_no_change(case):
    """The negative control: everything that a conversion does to a source."""
    x = case[0]()
    with assert_source_untouched(x):
        interop.to_numpy(x, copy=True, grad="detach")
        interop.to_torch(x, grad="detach")
        _ = x * 2


def test_only_what_changed_is_named():
    a, b, tree = np.zeros(2), torch.zeros(2), {"w": [np.ones(2), "text"], "n": 3}

    def change():
        tree["w"][0][:] = 0
        b.requires_grad_()

    with pytest.raises(AssertionError) as caught, assert_source_untouched(a, b, tree):
        change()
    assert [line for line in str(caught.value).splitlines() if line.startswith("arrays")] == [
        "arrays[1], torch.Tensor float32[2] on cpu:",
        "arrays[2]['w'][0], numpy.ndarray float64[2] on cpu:",
    ]


def test_an_error_of_the_block_stays():
    a = np.zeros(2)

    def change():
        a[0] = 1
        raise KeyError("the block's own")

    with pytest.raises(KeyError), assert_source_untouched(a):
        change()


def test_with_nothing_to_watch_it_says_so():
    with pytest.raises(TypeError, match="there is nothing to watch"), assert_source_untouched(3, "text", {}):
        pass


@pytest.mark.parametrize(
    ("x", "error"),
    [(torch.ones(2, device="meta"), NoDataError), (np.ma.masked_array([1.0, 2.0], [0, 1]), MaskError)],
    ids=["meta", "masked"],
)
def test_what_has_no_values_to_keep_is_refused(x, error):
    with pytest.raises(error), assert_source_untouched(x):
        pass


def test_watching_is_itself_no_touch_and_no_crossing():
    x = torch.ones(3, requires_grad=True)
    odd = STRICT.ones(2, device=STRICT.Device("device1"))
    before = (x._version, interop.describe(x))
    with interop.record() as log, interop.guard(native=True), assert_source_untouched(x, odd):
        pass
    assert log.crossings == []
    assert (x._version, interop.describe(x)) == before
