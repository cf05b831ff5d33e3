"""The handoff layer sees each kind of fault: every liar is a consumer, or a producer, that is honest but for one thing."""

from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
from interop_conformance.adapters import Idiom, SuiteFault, Unsupported
from interop_conformance.adapters.array_api_strict import ArrayAPIStrict
from interop_conformance.adapters.numpy import NumPy
from interop_conformance.matrix.dtypes import DTYPES, dlpack_code, dtype_named, values_of
from interop_conformance.matrix.layouts import LAYOUTS
from interop_conformance.matrix.sources import difference, source
from interop_conformance.matrix.states import STATES
from interop_conformance.results.records import Case
from interop_conformance.running.observe import observe


class Consumer(NumPy):
    """NumPy by a `from_dlpack` of its own; the honest one shares."""

    name = "liar"
    keep_mask = True

    def from_dlpack(self, x, /, **keywords):
        return x.view()


class Copies(Consumer):
    def from_dlpack(self, x, /, **keywords):
        return x.copy()


class OtherValues(Consumer):
    def from_dlpack(self, x, /, **keywords):
        return -x.copy()


class OneOtherValue(Consumer):
    def from_dlpack(self, x, /, **keywords):
        made = x.copy()
        made.reshape(-1)[-1:] += 1
        return made


class Narrows(Consumer):
    def from_dlpack(self, x, /, **keywords):
        return x.astype("float32")


class OtherShape(Consumer):
    def from_dlpack(self, x, /, **keywords):
        return x.reshape(-1)


class DropsMask(Consumer):
    def from_dlpack(self, x, /, **keywords):
        return np.asarray(x)


class Unseals(Consumer):
    def from_dlpack(self, x, /, **keywords):
        bare = SimpleNamespace(__array_interface__={**x.__array_interface__, "data": (x.__array_interface__["data"][0], False)}, owner=x)
        return np.asarray(bare)


class WritesToSource(Consumer):
    def from_dlpack(self, x, /, **keywords):
        made = x.copy()
        x[...] = 0
        return made


class SealsSource(Consumer):
    def from_dlpack(self, x, /, **keywords):
        x.flags.writeable = False
        return x.copy()


class Raises(Consumer):
    def __init__(self, error):
        self.error = error

    def from_dlpack(self, x, /, **keywords):
        raise self.error


def case(state="plain", dtype="float64", layout="compact", route="dlpack"):
    return Case("handoff", route, "numpy", "liar", "", dtype, layout, state)


def seen(consumer, producer=None, **words):
    return observe(case(**words), {"numpy": producer or NumPy(), "liar": consumer})


@pytest.mark.parametrize("state", NumPy.states)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_honest_one_shares(state, layout):
    observed = seen(Consumer(), state=state, layout=layout)
    if observed.outcome != "unsupported":
        assert observed.outcome == "shared"


def test_honest_copies_are_copies():
    assert seen(Copies()).outcome == "copied"


@pytest.mark.parametrize(
    ("liar", "words", "outcome", "says"),
    [
        (OtherValues(), {}, "wrong", "other values"),
        (OneOtherValue(), {}, "wrong", "other values"),
        (Narrows(), {}, "wrong", "float64 became float32"),
        (OtherShape(), {}, "wrong", "the shape (2, 3) became (6,)"),
        (DropsMask(), {"state": "masked"}, "unsafe", "the mask is lost"),
        (Unseals(), {"state": "read-only"}, "unsafe", "read-only memory became writeable"),
        (WritesToSource(), {}, "unsafe", "the source was changed: values"),
        (SealsSource(), {}, "unsafe", "the source was changed: writeable"),
        (Raises(BufferError("no")), {}, "refused", "BufferError: no"),
        (Raises(RuntimeError("what\nis this")), {}, "unexplained", "RuntimeError: what"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Consumer) else None,
)
def test_every_liar_is_caught(liar, words, outcome, says):
    observed = seen(liar, **words)
    assert observed.outcome == outcome
    assert says in observed.reason


def test_a_refusal_that_changes_the_source_is_unsafe():
    class Refuses(Consumer):
        def from_dlpack(self, x, /, **keywords):
            x.flags.writeable = False
            raise BufferError

    assert seen(Refuses()).outcome == "unsafe"


def test_an_array_out_of_no_data_is_wrong_whatever_it_holds():
    class Empty(NumPy):
        states = ("plain", "fake")

        def put(self, x, state, stack):
            return x

    assert seen(Consumer(), Empty(), state="fake").outcome == "wrong"
    assert seen(Consumer(), Empty(), state="fake", layout="empty").outcome == "shared"
    assert seen(OtherShape(), Empty(), state="fake", layout="empty").outcome == "wrong"
    assert seen(Raises(BufferError()), Empty(), state="fake").outcome == "refused"


def test_a_null_pointer_is_wrong_before_it_is_read():
    class Null(Consumer):
        def pointer(self, x):
            return 0

        def values(self, x):
            raise AssertionError("read through NULL")

    assert seen(Null()).reason == "the result has no memory behind it"


def test_a_gradient_that_goes_unasked_is_unsafe_and_one_that_is_given_up_is_not():
    class Tracked(NumPy):
        def put(self, x, state, stack):
            return x

    assert seen(Consumer(), Tracked(), state="grad").outcome == "unsafe"
    permits = Idiom("x.detach().numpy()", lambda x: x.view(), permits=frozenset({"grad"}))

    class Asks(Consumer):
        def idiom(self, producer):
            return permits

    assert seen(Asks(), Tracked(), state="grad", route="native").outcome == "shared"


def test_what_an_adapter_does_not_support_is_neutral_whatever_it_refuses():
    class Wide(NumPy):
        refuses = (Exception,)

        def from_dlpack(self, x, /, **keywords):
            raise Unsupported("no such thing")

    case = Case("handoff", "dlpack", "numpy", "wide", "", "float32", "1d", "plain")
    assert observe(case, {"numpy": NumPy(), "wide": Wide()}).outcome == "unsupported"


@pytest.mark.parametrize(("layout", "outcome"), [("empty", "shared"), ("1d", "refused")])
def test_of_no_elements_none_is_masked_and_nothing_is_lost(layout, outcome):
    case = Case("handoff", "interop", "numpy", "array-api-strict", "", "float32", layout, "masked")
    assert observe(case, {"numpy": NumPy(), "array-api-strict": ArrayAPIStrict()}).outcome == outcome


def test_an_adapter_that_makes_wrong_arrays_is_no_librarys_fault():
    class Wrong(NumPy):
        def make(self, values):
            return super().make(values) + 1

    observed = seen(Consumer(), Wrong())
    assert observed.outcome == "not-run"
    assert "the suite's own fault" in observed.reason


class Uninitialised(Consumer):
    """Allocates, and does not fill."""

    def from_dlpack(self, x, /, **keywords):
        return np.empty_like(np.asarray(x))


@pytest.mark.parametrize("dtype", ["uint8", "float32", "complex128"])
def test_uninitialised_memory_is_never_right_by_luck(dtype):
    """NumPy keeps small blocks for its next arrays, and the last ones were the suite's own, with the right values."""
    assert seen(Uninitialised(), dtype=dtype).outcome == "wrong"


def test_storage_made_dense_unasked_is_unsafe():
    class Sparse(NumPy):
        def put(self, x, state, stack):
            return x

    assert seen(Consumer(), Sparse(), state="sparse").reason == "the storage was made dense"


def test_what_a_refusal_says_would_help_is_done_and_looked_at():
    def convert(x):
        raise BufferError

    class Asks(Consumer):
        def idiom(self, producer):
            return Idiom("", convert, refuses=(BufferError,), again=self.again)

    honest, lies, final = Asks(), Asks(), Asks()
    honest.again, lies.again, final.again = (lambda x, error: x.copy(), lambda x, error: np.zeros_like(x), lambda x, error: None)
    assert [seen(one, route="native").outcome for one in (honest, lies, final)] == ["refused", "wrong", "refused"]


@pytest.mark.parametrize(
    ("permissions", "have", "cast", "outcome"),
    [
        ({"casting": "safe"}, "float32", lambda x: x.astype("float64"), "refused"),
        ({"mask": "drop"}, "float32", lambda x: x.astype("float64"), "wrong"),
        ({"casting": "same_kind"}, "float64", lambda x: x.astype("float32"), "refused"),
        ({"casting": "same_kind"}, "float64", lambda x: x.astype("float32") + 1, "wrong"),
        ({"casting": "same_kind"}, "int64", lambda x: x.astype("int32"), "refused"),
    ],
)
def test_a_cast_is_right_only_where_it_is_what_was_permitted(permissions, have, cast, outcome):
    class Refusal(BufferError):
        pass

    def convert(x):
        raise error

    error = Refusal()
    error.permissions = permissions

    class Casts(Consumer):
        def idiom(self, producer):
            return Idiom("", convert, refuses=(BufferError,), again=lambda x, error: cast(x))

    assert seen(Casts(), dtype=have, route="native").outcome == outcome


class ForgetsTheOwner(Consumer):
    """Takes the address, and nothing that keeps the memory."""

    def from_dlpack(self, x, /, **keywords):
        return np.asarray(SimpleNamespace(__array_interface__=dict(x.__array_interface__)))


@pytest.mark.parametrize("layout", ["compact", "transposed", "reversed", "offset", "unaligned"])
def test_a_result_that_does_not_keep_its_memory_is_wrong(layout):
    observed = seen(ForgetsTheOwner(), layout=layout)
    assert observed.outcome == "wrong"
    assert "does not keep its memory" in observed.reason


@pytest.mark.parametrize("honest", [Consumer(), Copies()], ids=["shares", "copies"])
def test_nothing_in_the_suite_keeps_the_source_alive(honest):
    import weakref

    class Watched(np.ndarray):
        pass

    alive = []

    class Producer(NumPy):
        def put(self, x, state, stack):
            made = x.view(Watched)
            alive.append(weakref.ref(made))
            return made

    class Looks(type(honest)):
        def values(self, x):
            counts.append(sum(ref() is not None for ref in alive))
            return super().values(x)

    counts = []
    seen(Looks(), Producer())
    # The honest one that shares keeps it itself, as it must; the one that copies has no reason to.
    assert counts[-1] == (0 if isinstance(honest, Copies) else 1)


@pytest.mark.parametrize("name", DTYPES)
def test_values_are_distinct_nonzero_and_survive_only_in_their_own_dtype(name):
    try:
        dtype = dtype_named(name)
    except AttributeError:
        pytest.skip(f"this ml_dtypes has no {name}")
    values = values_of(name, (2, 3))
    assert values.dtype == dtype
    assert len(set(values.reshape(-1).tolist())) == (2 if name == "bool" else 6)
    narrower = {
        "float64": "float32",
        "complex128": "complex64",
        "int64": "int32",
        "uint64": "uint32",
        "int32": "int16",
        "float32": None,
    }.get(name)
    if narrower:
        assert (values.astype(narrower).astype(name) != values).all()


def test_dlpack_codes_are_read_back():
    from interop.dlpack import dtype_of_code

    for name in DTYPES:
        with nullcontext():
            code = dlpack_code(dtype_named(name))
        if name != "datetime64":
            assert dtype_of_code(*code, 4) == name


def test_every_layout_is_what_its_name_says():
    strides = {layout.name: layout.view(np.zeros(layout.base, "f4")).strides for layout in LAYOUTS.values()}
    assert min(strides["reversed"]) < 0
    assert min(strides["mirrored"]) < 0
    assert 0 in strides["broadcast"]
    unaligned = LAYOUTS["unaligned"]
    assert not unaligned.view(np.zeros(unaligned.base, "f4")).flags.aligned


def test_a_state_that_no_adapter_knows_is_unsupported():
    from contextlib import ExitStack

    with ExitStack() as stack, pytest.raises(Unsupported, match="numpy has no state 'vmap'"):
        source(NumPy(), "float32", "compact", "vmap", stack)


def test_a_broken_adapter_is_a_fault_of_the_suite():
    from contextlib import ExitStack

    class Broken(NumPy):
        def make(self, values):
            raise KeyError("oops")

    with ExitStack() as stack, pytest.raises(SuiteFault, match="KeyError"):
        source(Broken(), "float32", "compact", "plain", stack)


def test_difference_looks_at_every_bit():
    nan, other = np.array([0x7FC00000], "u4").view("f4"), np.array([0x7FC00001], "u4").view("f4")
    assert not difference(nan, nan.copy())
    assert difference(nan, other) == "other values"
    assert difference(np.array([0.0]), np.array([-0.0])) == "other values"


def test_every_state_says_what_it_carries():
    assert {state.carries for state in STATES.values()} <= {"", "grad", "mask", "readonly", "layout", "device"}
