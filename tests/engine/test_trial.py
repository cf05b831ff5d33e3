"""A plan promises no cast that the values forbid, and no permission that ends in another refusal."""

import numpy as np
import pytest

import interop

FORBIDDEN = {
    "words": (np.array(["a", "b"]), "float32"),
    "bytes": (np.array([b"a"]), "int64"),
    "objects": (np.array([1, "a"], dtype=object), "float32"),
    "no time": (np.array(["NaT", "2020"], "M8[D]"), "int64"),
}
ALLOWED = {
    "numerals": (np.array(["1", "2"]), "float32"),
    "numbers": (np.array([1, 2], dtype=object), "int64"),
    "dates": (np.array(["2020"], "M8[D]"), "int64"),
    "plain": (np.ones(2), "float32"),
}


@pytest.mark.parametrize("to", ["numpy", "torch"])
@pytest.mark.parametrize("words", [{}, {"copy": False}, {"policy": "strict"}], ids=str)
@pytest.mark.parametrize("name", FORBIDDEN)
def test_what_the_values_forbid_is_final(name, words, to):
    x, dtype = FORBIDDEN[name]
    plan = interop.explain(x, to, dtype=dtype, **words)
    assert (plan.ok, plan.final, plan.permissions) == (False, True, {})
    with pytest.raises(interop.InteropError) as caught:
        interop.convert(x, to, dtype=dtype, **words)
    assert caught.value.permissions == {}
    assert caught.value.hint


@pytest.mark.parametrize("to", ["numpy", "torch"])
@pytest.mark.parametrize("name", ALLOWED)
def test_what_they_allow_is_permitted(name, to):
    """The negative control."""
    x, dtype = ALLOWED[name]
    assert interop.explain(x, to, dtype=dtype).ok
    with pytest.raises(interop.CopyError) as caught:
        interop.convert(x, to, dtype=dtype, copy=False)
    assert caught.value.permissions == interop.explain(x, to, dtype=dtype, copy=False).permissions == {"copy": True}
    assert caught.value.retry().tolist() == interop.convert(x, to, dtype=dtype).tolist()


def test_a_description_is_not_tried():
    seen = interop.describe(FORBIDDEN["words"][0])
    assert interop.explain(seen, "torch", dtype="float32").ok


@pytest.mark.parametrize("dtype", ["float32", "int64"])
@pytest.mark.parametrize("to", ["numpy", "torch"])
def test_a_record_is_what_its_plan_says(dtype, to):
    for record in (np.zeros(2, [("a", "f4"), ("b", "i8")]), np.zeros(2, [("a", "f4")]), np.zeros(2, "V2")):
        plan = interop.explain(record, to, dtype=dtype, copy=False)
        with pytest.raises(interop.InteropError) as caught:
            interop.convert(record, to, dtype=dtype, copy=False)
        assert plan.permissions == caught.value.permissions
        if plan.permissions:
            assert caught.value.retry() is not None
