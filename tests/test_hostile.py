"""What a hostile review found, kept found: lying producers, odd subclasses, modes, rare dtypes, scalars."""

import asyncio
import enum
import subprocess
import sys
import typing
import weakref

import ml_dtypes
import numpy as np
import pytest
import torch
from torch.overrides import TorchFunctionMode

import interop
from interop import (
    DTypeError,
    InteropError,
    TransferError,
    UnsupportedTypeError,
    convert,
    describe,
    shares_memory,
    to_cupy,
    to_numpy,
    to_torch,
)
from interop.errors import ProducerError
from tests.producer import Producer

LINE = np.arange(6, dtype="float32")


class Shaped(Producer):
    """A producer whose capsule has a shape of the test's choice, whatever lies behind it."""

    def __init__(self, shape, *, ndim=None, null_shape=False):
        super().__init__(LINE)
        self.odd, self.ndim, self.null_shape = shape, ndim, null_shape

    def _fill(self, tensor, device):
        import ctypes

        super()._fill(tensor, device)
        extents = (ctypes.c_int64 * max(len(self.odd), 1))(*self.odd)
        self._kept.append(extents)
        tensor.ndim = len(self.odd) if self.ndim is None else self.ndim
        tensor.shape = None if self.null_shape else ctypes.cast(extents, ctypes.POINTER(ctypes.c_int64))
        tensor.strides = None


@pytest.mark.parametrize(
    "producer",
    [
        Shaped((-1,)),
        Shaped((0, -1)),
        Shaped((-(2**63),)),
        Shaped((2**62, 4)),
        Shaped((2**40, 2**40)),
        Shaped((1,) * 65),
        Shaped((2,), ndim=-1),
        Shaped((2,), null_shape=True),
    ],
    ids=lambda p: f"{p.odd[:3]}-{p.ndim}-{p.null_shape}",
)
def test_capsules_that_hold_no_array(producer):
    for verb in (to_numpy, to_torch, describe):
        with pytest.raises(InteropError, match="holds no array"):
            verb(producer)


@pytest.mark.parametrize(
    "answer",
    [
        (),
        "abc",
        (1,),
        (1, 0, 0),
        ("a", "b"),
        ("1", "0"),
        (1, "0"),
        (2, None),
        (None, 0),
        (1.0, 0),
        {1: 0, 2: 0},
        1,
        (2, -1),
        (torch.ones(2), 0),
    ],
    ids=repr,
)
def test_devices_that_are_none(answer):
    for verb in (to_numpy, to_torch, describe):
        with pytest.raises(ProducerError, match=r"__dlpack_device__|refuses"):
            verb(Producer(LINE, advertised=answer))


class Kind(enum.IntEnum):
    CPU = 1


@pytest.mark.parametrize("answer", [(1, None), (True, 0), (np.int32(1), np.int64(0)), (Kind.CPU, 0), [1, 0], (np.array(1), -1)], ids=repr)
def test_devices_that_are_one(answer):
    for verb in (to_numpy, to_torch):
        assert shares_memory(verb(Producer(LINE, advertised=answer)), LINE)


class Words(Exception):
    """An exception of a library's own, of no family; even its text fails."""

    def __str__(self):
        raise ZeroDivisionError


ANY = [
    KeyError("x"),
    ZeroDivisionError(),
    FileNotFoundError("f"),
    NotImplementedError(),
    StopIteration(),
    Words(),
    ExceptionGroup("g", [OSError()]),
]


@pytest.mark.parametrize("error", [*ANY, TypeError("an argument"), interop.GradError("nested", permissions={"grad": "detach"})], ids=repr)
@pytest.mark.parametrize("where", ["raises", "device_raises"])
def test_whatever_a_producer_raises_is_explained(error, where):
    for verb in (to_torch, to_numpy, describe):
        with pytest.raises(ProducerError, match=type(error).__name__) as caught:
            verb(Producer(LINE, **{where: error}))
        assert type(caught.value.__cause__) is type(error)
        assert caught.value.permissions == {}
    assert [refusal.code for refusal in interop.explain(Producer(LINE, **{where: error}), "torch").refusals] == ["producer"]


@pytest.mark.parametrize("error", [MemoryError, RecursionError, KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError])
@pytest.mark.parametrize("where", ["raises", "device_raises"])
def test_what_is_not_about_the_producer_goes_through(error, where):
    with pytest.raises(error):
        to_torch(Producer(LINE, **{where: error()}))


def test_a_fault_of_our_own_is_not_the_producers(monkeypatch):
    """The negative control: it is caught around the call into the producer and nowhere else."""
    from interop.backends import dlpack

    monkeypatch.setattr(dlpack, "Capsule", lambda raw: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        to_numpy(Producer(LINE))


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
@pytest.mark.parametrize("verb", [to_torch, to_cupy])
def test_a_cuda_producer_where_there_is_no_cuda(verb):
    producer = Producer(LINE, device=(2, 0))
    with pytest.raises(interop.DeviceUnavailableError):
        verb(producer)
    assert producer.asked[0]["stream"] == -1  # only looked at: nobody waits


def test_a_producer_that_ignores_where_it_should_go():
    class Staying(Producer):
        def __dlpack__(self, **asked):
            return super().__dlpack__(**{name: value for name, value in asked.items() if name != "dl_device"})

    with pytest.raises(TransferError, match="something else"):
        to_numpy(Staying(LINE, device=(2, 0)), transfer="allow")


@pytest.mark.parametrize("dtype", [(2, 16, 2), (200, 32, 1), (0, 4, 1)])
def test_an_explicit_dtype_does_not_read_what_has_no_meaning(dtype):
    for verb in (to_numpy, to_torch):
        with pytest.raises(DTypeError, match="no numeric meaning"):
            verb(Producer(LINE, dtype=dtype), dtype="float32")


class Answering(TorchFunctionMode):
    """A mode that answers instead of torch."""

    def __init__(self, answer):
        self.answer = answer

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func in (torch.Tensor.numpy, torch.Tensor.data.__get__, torch.Tensor.detach):
            return self.answer
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("answer", ["text", 5, None, [1]])
def test_a_function_mode_cannot_put_something_else_in_the_way(answer):
    parameter = torch.nn.Parameter(torch.ones(2))
    with Answering(answer):
        assert torch.ones(2).numpy() == answer  # the negative control: torch itself is answered for
        assert to_numpy(torch.zeros(2)).tolist() == [0, 0]
        assert to_numpy(parameter, grad="detach").tolist() == [1, 1]
        assert to_numpy(torch.ones(2), copy=True).tolist() == [1, 1]


class Refusing(torch.Tensor):
    """A class for which torch has no function at all."""

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        raise NotImplementedError(f"not for this class: {function}")


class Recorder(TorchFunctionMode):
    """Notes what torch is asked for."""

    def __init__(self):
        super().__init__()
        self.asked = []

    def __torch_function__(self, function, types, args=(), kwargs=None):
        self.asked.append(function)
        return function(*args, **(kwargs or {}))


def test_where_nothing_is_to_be_done_nobody_is_asked():
    x, plain = torch.Tensor._make_subclass(Refusing, torch.ones(2)), torch.ones(2)
    with pytest.raises(NotImplementedError):
        _ = x.is_cpu  # the negative control
    assert to_torch(x) is x
    with Recorder() as mode:
        assert to_torch(plain, copy=False) is plain
    assert mode.asked == []
    with Recorder() as mode:
        to_torch(plain, copy=True)
    assert mode.asked == [torch.Tensor.dtype.__get__, torch.Tensor.clone]


class Stubborn(torch.Tensor):
    """Answers for its methods itself, with nonsense."""

    def stride(self):
        return "no"

    detach = clone = numpy = to = stride


class StubbornArray(np.ndarray):
    def __getattribute__(self, name):
        if name in ("view", "astype", "copy"):
            raise KeyError(name)
        return super().__getattribute__(name)


def test_subclasses_are_not_asked_what_their_memory_means():
    tensor = torch.ones(2).as_subclass(Stubborn)
    assert to_numpy(tensor).tolist() == [1, 1]
    assert to_numpy(tensor, dtype="float64", copy=True).tolist() == [1, 1]
    array = np.ones(2).view(StubbornArray)
    assert to_torch(array).tolist() == [1, 1]
    assert to_torch(array, dtype="float32").tolist() == [1, 1]
    assert describe(tensor).type.endswith("Stubborn")


def test_a_subclass_keeps_its_gradient_guard():
    class Labelled(torch.Tensor):
        pass

    for scope in (torch.no_grad, torch.inference_mode):
        tensor = torch.ones(2, requires_grad=True).as_subclass(Labelled)
        with scope(), pytest.raises(interop.GradError):
            to_numpy(tensor)


SCALARS = [np.datetime64("2026-01-01"), np.timedelta64(1, "s"), np.str_("a"), np.bytes_(b"a"), np.void(b"abc"), np.True_, np.float32(3)]


@pytest.mark.parametrize("scalar", SCALARS, ids=lambda scalar: type(scalar).__name__)
def test_every_numpy_scalar_is_an_array_for_numpy(scalar):
    array = to_numpy(scalar)
    assert type(array) is np.ndarray
    assert array.shape == ()
    assert array.dtype == scalar.dtype
    assert array == scalar
    with pytest.raises(interop.CopyError, match="no buffer"):
        to_numpy(scalar, copy=False)


def test_like_an_array_of_a_library_that_is_only_a_source():
    import pyarrow

    for verb in (convert, interop.explain):
        with pytest.raises(UnsupportedTypeError, match="a source, not a target"):
            verb(LINE, like=pyarrow.array([1.0, 2.0]))


@pytest.mark.parametrize("dtype", ["f4", "single", "float32", np.single, np.dtype("<f4")])
def test_dtypes_in_numpys_short_words(dtype):
    assert to_torch(LINE.astype("float64"), dtype=dtype).dtype is torch.float32


def test_a_foreign_byte_order_is_asked_for_in_vain():
    with pytest.raises(ValueError, match="write dtype='float32'"):
        to_torch(LINE, dtype=np.dtype(">f4"))


def test_torchs_own_words_do_not_mean_numpys():
    for word, meant in (("torch.float", torch.float32), ("torch.int", torch.int32)):  # float64 and int64 for NumPy
        assert to_torch(LINE, dtype=word).dtype is meant
    assert to_torch(LINE, dtype="torch.float64").dtype is torch.float64


def test_values_that_do_not_fit_are_a_refusal():
    for dtype in ("float64", "int64"):
        with pytest.raises(DTypeError, match="too large"):
            to_torch(np.array([10**400], dtype=object), dtype=dtype)


def rare():
    yield torch.sparse_coo_tensor([[0, 0]], torch.ones(2).to(torch.float8_e4m3fn), (2,)), {"layout": "dense"}
    yield torch.sparse_csr_tensor([0, 1], [0], torch.ones(1).to(torch.uint16), (1, 1)), {"layout": "dense"}
    yield torch._neg_view(torch.ones(2, dtype=torch.bool)), {}
    yield torch._neg_view(torch.ones(2).to(torch.float8_e5m2)), {}
    yield torch.ones((1,) * 70), {}


@pytest.mark.filterwarnings("ignore:Sparse")  # torch's own, on making sparse tensors
@pytest.mark.parametrize("which", range(5))
def test_what_torch_itself_cannot_do_is_explained(which):
    tensor, words = list(rare())[which]
    with pytest.raises(InteropError) as caught:
        to_numpy(tensor, **words)
    assert caught.value.hint
    assert caught.value.permissions == {}


def test_casts_within_torch_that_torch_does_not_have():
    for tensor, says in ((torch.empty(2, dtype=torch.int4), "no numeric meaning"), (torch.ones(2).to_mkldnn(), "torch cannot cast")):
        with pytest.raises(InteropError, match=says):
            to_torch(tensor, dtype="int8")
    from tests import corpus

    assert to_torch(corpus.quantized(), dtype="float64").tolist() == corpus.GRID


def test_a_tensor_stays_on_a_device_that_interop_does_not_know():
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        for device in ("xla", "mtia", "cuda:3", "mps"):
            tensor = torch.empty(2, device=device)
            assert to_torch(tensor) is tensor
            assert to_torch(tensor, copy=True).device == to_torch(tensor, dtype="float16").device == tensor.device
            assert to_torch(tensor, device="cpu").device.type == "cpu"
            with pytest.raises(interop.NoDataError):
                to_numpy(tensor)


class Elsewhere(torch.Tensor):
    """A wrapper that claims a device of CUDA's, and computes on the host."""

    @staticmethod
    def __new__(cls, inner):
        return torch.Tensor._make_wrapper_subclass(cls, inner.shape, dtype=inner.dtype, device="cuda:7")

    def __init__(self, inner):
        self.inner = inner

    @classmethod
    def __torch_dispatch__(cls, function, types, args, kwargs=None):
        return cls(function(*(x.inner if isinstance(x, cls) else x for x in args), **(kwargs or {})))


def test_a_wrapper_that_claims_a_device_computes_where_it_likes():
    wrapper = Elsewhere(torch.ones(2))
    assert to_torch(wrapper) is wrapper
    assert type(to_torch(wrapper, copy=True)) is Elsewhere
    assert to_torch(wrapper, dtype="float64").inner.dtype == torch.float64


def test_verbs_are_objects_like_any_other():
    assert weakref.ref(to_numpy)() is to_numpy
    assert typing.get_type_hints(to_numpy)["copy"] == (bool | None)
    assert {to_numpy: 1}[to_numpy] == 1


def test_the_default_device_is_not_asked():
    with torch.device("meta"):
        assert to_torch(LINE).device.type == "cpu"
        assert shares_memory(to_torch(LINE), LINE)
        assert to_torch(LINE.astype(ml_dtypes.bfloat16)).device.type == "cpu"


def test_strides_that_are_not_whole_elements_are_compared_exactly():
    table = np.zeros(3, [("f", "u1"), ("x", "<f4"), ("y", "<f8")])
    assert shares_memory(table["y"], table["y"][1:])
    assert shares_memory(table, table["y"])
    assert not shares_memory(table["x"], table["y"])


def test_an_explicit_dtype_is_in_native_order_and_a_copy_keeps_the_order():
    swapped = np.arange(3, dtype=">f4")
    assert to_numpy(swapped) is swapped
    assert to_numpy(swapped, dtype="float32").dtype == np.dtype("f4")
    assert to_numpy(swapped, copy=True).dtype == np.dtype(">f4")
    assert to_torch(swapped[::-1]).tolist() == [2, 1, 0]
    strings = np.array(["a", "b"], np.dtypes.StringDType())
    assert to_numpy(strings, copy=True).tolist() == ["a", "b"]


def test_numbers_in_strings_become_small_floats_too():
    for dtype in ("bfloat16", "float8_e5m2", "float32"):
        assert to_torch(np.array(["1", "2"]), dtype=dtype).tolist() == [1, 2]


def test_a_meta_device_is_asked_for_by_name_only():
    meta = torch.empty(1, device="meta")
    for words in ({}, {"transfer": "allow"}, {"policy": "coerce"}):
        with pytest.raises(interop.NoDataError):
            convert(LINE, like=meta, **words)
    assert to_torch(LINE, device="meta").device.type == "meta"


def test_native_device_objects_of_any_library():
    import cupy

    assert to_torch(LINE, device=torch.device("cpu")).device.type == "cpu"
    with pytest.raises(InteropError, match="cuda:7"):
        to_torch(LINE, device=cupy.cuda.Device(7))
    assert to_numpy(LINE, device=interop.Device("cpu", 1)) is LINE


def test_a_description_is_planned_and_not_converted():
    described = interop.Description(backend="torch", shape=(2,), device="cuda:1")
    assert described.device == interop.Device("cuda", 1)
    assert described.nbytes == 8
    with pytest.raises(UnsupportedTypeError, match="no data to convert"):
        to_numpy(described)
    with pytest.raises(ValueError, match="strides for"):
        interop.Description(backend="numpy", shape=(2, 2), strides=(1,))


def test_explaining_never_raises_for_a_refusal():
    import pyarrow

    for x, code in [
        (pyarrow.array(["a"]), "dtype"),
        (Producer(LINE, raises=OSError()), "producer"),
        ([1, 2], "unsupported-type"),
        (Shaped((-1,)), "layout"),
    ]:
        plan = interop.explain(x, "numpy")
        assert [refusal.code for refusal in plan.refusals] == [code]
        assert plan.final
        assert "refused" in str(plan)


def test_casting_complex_numbers_changes_no_warning_filter():
    import warnings

    before = list(warnings.filters)
    to_numpy(np.array([1j]), dtype="float64")
    assert warnings.filters == before


def test_a_compiled_half_of_another_version_is_not_used():
    code = """if True:
        import sys, types
        sys.modules["interop.native.fastpath"] = types.ModuleType("left over")
        import interop, numpy, torch
        assert interop._engine.fastpath.compiled is None
        assert interop.shares_memory(interop.to_numpy(x := torch.ones(2)), x)
    """
    subprocess.run([sys.executable, "-c", code], check=True)


def test_recipes_are_python():
    with pytest.raises(interop.CopyError) as caught:
        to_torch(LINE, dtype=np.float16, copy=False)
    assert caught.value.hint == "write to_torch(x, dtype='float16', copy=True)"


def test_a_verb_says_its_name():
    assert "to_numpy" in repr(to_numpy)


def test_looking_does_not_carry_out_a_lazy_copy():
    lazy = torch._lazy_clone(torch.ones(3))
    describe(lazy)
    assert interop.explain(lazy, "numpy").ok
    assert torch._C._is_cow_tensor(lazy)
    assert to_numpy(lazy).tolist() == [1, 1, 1]


def test_a_masked_copy_within_numpy_keeps_its_mask():
    masked = np.ma.array([1, 2], mask=[0, 1])
    copied = to_numpy(masked, copy=True)
    assert copied.mask.tolist() == [False, True]
    copied.mask[0] = True
    assert masked.mask.tolist() == [False, True]


def test_a_meta_tensor_cannot_leave_its_device():
    with pytest.raises(interop.NoDataError):
        to_torch(torch.empty(2, device="meta"), device="cpu")


def test_looking_at_device_memory_makes_nobody_wait():
    producer = Producer(LINE, device=(2, 0))
    describe(producer)
    assert producer.asked == [{"max_version": (1, 3), "stream": -1}]


def test_an_empty_field_with_odd_strides_needs_no_copy():
    field = np.zeros(0, [("f", "u1"), ("y", "<f8")])["y"]
    assert describe(field).strides is not None
    assert tuple(to_torch(field, copy=False).shape) == (0,)


@pytest.mark.parametrize("raised", ["NameError", "OSError", "SyntaxError", "ImportError", "AssertionError"])
def test_a_half_installed_library_is_said_to_be_one(tmp_path, raised):
    (tmp_path / "torch.py").write_text(f"raise {raised}('half of it')")
    code = """if True:
        import sys; sys.path.insert(0, sys.argv[1])
        import interop, numpy
        plan = interop.explain(numpy.ones(2), "torch")
        assert plan.description.dtype == "float64" and plan.refusals[0].code == "backend-not-installed", plan
        try:
            interop.to_torch(numpy.ones(2))
        except interop.BackendNotInstalledError as error:
            assert "half of it" in str(error) and error.refusals and "doctor" in error.hint
    """
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)


def test_a_structured_array_is_not_read_as_numbers():
    table = np.zeros(2, [("a", "f4"), ("b", "i2")])
    assert not interop.explain(table, "torch", dtype="float32").ok
    with pytest.raises(DTypeError, match="no numeric meaning"):
        to_torch(table, dtype="float32")
    assert "if every value can be read so" in str(interop.explain(np.array(["1"]), "torch", dtype="float32"))


def test_permitted_casts_are_quiet():
    assert to_torch(np.array([1e300]), dtype="float32").tolist() == [float("inf")]
    assert to_torch(np.array([np.nan]), dtype="int32").shape == (1,)
    assert to_torch(np.array(["1e4000"]).astype("longdouble"), policy="coerce").tolist() == [float("inf")]


@pytest.mark.parametrize("stream", [0, -5, "x", 1.5])
def test_a_wrong_stream_is_part_of_the_plan(stream):
    x = interop.Description(backend="torch", shape=(2,), device="cuda:0", requires_grad=True)
    plan = interop.explain(x, "cupy", stream=stream)
    assert [refusal.code for refusal in plan.refusals] == ["stream", "grad"]
    assert plan.final


@pytest.mark.parametrize("words", [{"memory": "pined"}, {"pending": "conj"}, {"pending": ("conk",)}])
def test_descriptions_by_hand_are_checked(words):
    with pytest.raises(ValueError, match=r"did you mean 'pinned'|pending is a tuple"):
        interop.Description(backend="torch", **words)


def test_a_target_given_by_name_is_told_to_be_given_by_position():
    with pytest.raises(TypeError, match="given by position"):
        convert(LINE, to="torch")


def test_every_refusal_lists_itself():
    for call in (lambda: to_torch([1]), lambda: to_torch(np.array(["a"]), dtype="float32")):
        with pytest.raises(InteropError) as caught:
            call()
        assert [refusal.code for refusal in caught.value.refusals] == [caught.value.code]
