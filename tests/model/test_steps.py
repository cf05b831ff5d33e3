"""The steps to a library that takes only compact and aligned host memory, and copies by itself what is not so."""

from itertools import product

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from interop import Description, Device, Policy
from interop._model.capabilities import Capabilities
from interop._model.decide import decide
from interop._model.description import CPU
from interop._model.dtypes import DTYPES
from interop._model.plan import Request
from interop._model.steps import _compact

CUDA = Device("cuda", 0)
SOURCE = Capabilities(name="a", title="A", dtypes=frozenset(DTYPES), devices=frozenset({"cpu", "cuda"}), negative_strides=True)
PICKY = Capabilities(
    name="b",
    title="B",
    dtypes=frozenset({"float32", "int32"}),
    devices=frozenset({"cpu", "cuda"}),
    alignment={"cpu": 64, "cuda": 16},
    compact=True,
)


def array(shape=(2, 3), pointer=4096, device=CPU, **fields):
    return Description(backend="a", shape=shape, pointer=pointer, device=device, **fields)


def plan(description, policy=None, device=None, target=PICKY, **words):
    return decide(description, Request(SOURCE, target, policy or Policy(), CPU, device, device_named=device is not None, **words))


def taken(made):
    return [(step.kind, step.side) for step in made.steps]


SHARE = [("share", "border")]
LAND = [("copy", "target")]


@pytest.mark.parametrize(
    "description",
    [
        array(),
        array(strides=(1, 2)),
        array((2, 3, 4), strides=(4, 8, 1)),
        array((2, 3), strides=(3, 1), pointer=4096 + 64),
        array((1, 3), strides=(-7, 1)),
        array((2, 1), strides=(1, 0)),
        array(()),
        array((0, 3), pointer=4100),
        array((0, 3), strides=(-5, 7)),
        array(pointer=None),  # a description by hand: taken to be aligned
        array(readonly=True),
    ],
    ids=str,
)
def test_compact_and_aligned_memory_is_shared(description):
    made = plan(description, Policy(copy=False, readonly="share"))
    assert made.shares_memory
    assert taken(made) == SHARE


AWRY = {
    "aligned to 64 bytes": array(pointer=4096 + 4),
    "aligned to 64 byte": array((), pointer=4096 + 32),
    "compact memory": array(strides=(6, 2)),
    "without gaps and repeats": array(strides=(0, 1)),
    "compact": array((2, 3), strides=(1, 1)),
    "negative strides": array(strides=(-3, 1)),
    "unaligned data": array(aligned=False),
    "whole elements": array(strides=None),
}


@pytest.mark.parametrize("words", AWRY)
def test_the_target_copies_what_lies_awry_once(words):
    made = plan(AWRY[words])
    assert taken(made) == LAND
    assert words in made.steps[0].reason
    assert made.bytes_copied == AWRY[words].nbytes
    assert taken(plan(AWRY[words], Policy(copy=True))) == LAND  # which is the copy that was asked for


@pytest.mark.parametrize("words", AWRY)
def test_copy_false_is_refused_with_the_reason(words):
    made = plan(AWRY[words], Policy(copy=False))
    (refusal,) = made.refusals
    assert refusal.code == "copy"
    assert words in refusal.reason
    assert refusal.permissions == {"copy": True}


def test_every_reason_is_named():
    step = plan(array(strides=(-6, 2), pointer=4100)).steps[0]
    assert "negative strides" in step.reason
    assert "64 bytes" in step.reason


def test_a_library_that_does_not_mind_gets_the_same_memory():
    """The negative control: the same arrays, and a target that takes any memory."""
    easy = Capabilities(name="c", title="C", dtypes=frozenset({"float32"}), devices=frozenset({"cpu"}))
    for description in (array(pointer=4100), array(strides=(6, 2)), array(strides=(0, 1))):
        assert plan(description, Policy(copy=False), target=easy).shares_memory


def test_what_others_make_new_is_copied_once_more():
    cast = plan(array(dtype="float64"), Policy(casting="same_kind"))
    assert taken(cast) == [("cast", "source"), *LAND]
    assert cast.bytes_copied == 2 * 24
    assert "which new memory need not be" in cast.steps[-1].reason
    assert taken(plan(array(swapped=True, strides=(-3, 1)))) == [("cast", "source"), *LAND]
    assert taken(plan(array((), scalar=True, pointer=None))) == [("copy", "source"), *LAND]


def test_on_a_device_the_source_makes_it_compact():
    assert taken(plan(array(device=CUDA, strides=(6, 2)))) == [("copy", "source"), *SHARE]
    assert plan(array(device=CUDA, strides=(6, 2)), Policy(copy=False)).refusals[0].code == "copy"


@pytest.mark.parametrize("description", [array(), array(pointer=4100), array(strides=(-6, 2)), array(aligned=False)], ids=str)
def test_on_the_way_to_a_device_nothing_is_copied_twice(description):
    made = plan(description, device=CUDA)
    assert taken(made) == [("transfer", "target")]
    assert made.bytes_copied == 24


def test_memory_that_is_off_goes_to_a_device_as_any_other():
    assert taken(plan(array(pointer=4100), device=CUDA)) == [("transfer", "target")]


def test_what_comes_from_a_device_is_copied_once_more():
    assert taken(plan(array(device=CUDA), device=CPU)) == [("transfer", "source"), *LAND]


@pytest.mark.parametrize(("here", "there"), [("cpu", "cuda"), ("cuda", "cpu")])
def test_copy_false_is_no_crossing_either(here, there):
    made = plan(array(device=Device(here)), Policy(copy=False), device=Device(there))
    assert [(refusal.code, refusal.permissions) for refusal in made.refusals] == [("copy", {"copy": True})]
    assert f"the data have to cross from {Device(here)} to {Device(there)}" in made.refusals[0].reason


def test_a_cast_by_the_target_comes_last():
    narrow = Capabilities(name="a", title="A", dtypes=frozenset({"float32"}), devices=frozenset({"cpu"}))
    made = decide(array(pointer=4100), Request(narrow, PICKY, Policy(), CPU, dtype="int32"))
    assert taken(made) == [*LAND, ("cast", "target")]


def test_within_a_library_nothing_has_to_lie_anyhow():
    assert plan(array(pointer=4100, strides=(-6, 2)), target=SOURCE).steps == ()


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 30)), max_size=4))
@example([(2, 1), (3, 2)])
@example([(2, 12), (3, 4), (4, 1)])
def test_compact_means_each_element_of_a_block_once(axes):
    shape, strides = tuple(extent for extent, _ in axes), tuple(step for _, step in axes)
    offsets = sorted(sum(n * step for n, step in zip(index, strides, strict=True)) for index in product(*map(range, shape)))
    assert _compact(array(shape, strides=strides)) == (offsets == list(range(len(offsets))))


@pytest.mark.parametrize(("offset", "taken_as"), [(0, SHARE), (8, [("copy", "source"), *SHARE]), (16, SHARE), (48, SHARE)])
def test_each_device_has_an_alignment_of_its_own(offset, taken_as):
    made = plan(array(device=CUDA, pointer=4096 + offset), Policy())
    assert taken(made) == taken_as
    assert made.shares_memory == (offset % 16 == 0)
    strict = plan(array(device=CUDA, pointer=4096 + offset), Policy(copy=False))
    assert strict.ok == (offset % 16 == 0)
    assert strict.ok or "aligned to 16 bytes" in strict.refusals[0].reason


POOR = Capabilities(
    name="a", title="A", dtypes=frozenset({"float64", "float32", "int8"}), devices=frozenset({"cpu", "mps"}), lacking={"mps": {"float64"}}
)


def within(have, policy, **words):
    description = Description(backend="a", shape=(4,), dtype=have)
    return decide(description, Request(POOR, POOR, policy, CPU, Device("mps"), device_named=True, **words))


def test_within_a_library_the_other_device_may_lack_the_dtype():
    refused = within("float64", Policy())
    assert refused.refusals[0].reason == "A has no float64 on mps:0; float32 is of the same kind, but loses precision or range"
    assert refused.permissions == {"casting": "same_kind"}
    cast = within("float64", Policy(casting="same_kind"))
    assert (cast.dtype, [step.kind for step in cast.steps]) == ("float32", ["cast", "transfer"])
    assert within("float32", Policy()).ok
    assert within("float64", Policy(), dtype="int8").ok
    assert within("float32", Policy(), dtype="float64").final
