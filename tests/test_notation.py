"""The notation says what the backends would see of such an array, is written as it is read, and answers a wrong word."""

import subprocess
import sys

import array_api_strict
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from array_api_strict._array_object import Array
from hypothesis import given, reject
from hypothesis import strategies as st
from jax.experimental.layout import Format, Layout
from torch._subclasses.fake_tensor import FakeTensorMode

from interop import Description, Device, convert, describe, explain
from interop._model.dtypes import DTYPES
from interop._vocabulary import FLAGS, LIBRARIES
from interop.backends import BUILTIN, FOREIGN, load_backend
from interop.backends.numpy import backend as numpy_backend
from interop.notation import format_description, parse


def readonly(a):
    a.setflags(write=False)
    return a


def fake():
    with FakeTensorMode():
        return torch.zeros(2)


def traced(x):
    kept = []
    jax.make_jaxpr(kept.append)(x)
    return kept[0]


def permuted():
    """Return an array that compiled code left in another order."""
    return jax.device_put(jnp.zeros((2, 3)), Format(Layout((1, 0)), jnp.zeros(2).sharding))


def deleted(x):
    x.delete()
    return x


def strict(a, device="CPU_DEVICE"):
    return Array._new(a, device=array_api_strict.Device(device))


REAL = {
    "numpy:float32[480,640,3]+readonly": lambda: readonly(np.zeros((480, 640, 3), "float32")),
    "numpy:uint8[4,640,3]+strides=1920,3,-1": lambda: np.zeros((4, 640, 3), "uint8")[:, :, ::-1],
    "numpy:float64[4,4]+masked": lambda: np.ma.masked_array(np.zeros((4, 4)), np.eye(4)),
    "numpy:float32[3]+swapped": lambda: np.zeros(3, ">f4"),
    "numpy:float32[2]+unaligned": lambda: np.zeros(9, "uint8")[1:].view("float32"),
    "numpy:complex128[2]+odd_strides": lambda: np.zeros(2, {"names": ["a", "b"], "formats": ["c16", "f8"]})["a"],
    "numpy:complex128[]": lambda: np.zeros((), complex),
    "numpy:object[2]": lambda: np.array([1, None]),
    "numpy:longdouble[2]": lambda: np.zeros(2, "longdouble"),
    "numpy:bfloat16[2,3]": lambda: np.zeros((2, 3), numpy_backend.native_dtype("bfloat16")),
    "torch:bfloat16[64,64]+grad": lambda: torch.zeros(64, 64, dtype=torch.bfloat16, requires_grad=True),
    "torch:complex64[8]+conj+grad": lambda: torch.zeros(8, dtype=torch.complex64, requires_grad=True).conj(),
    "torch:float32[8]+neg+strides=2": lambda: torch.zeros(8, dtype=torch.complex64).conj().imag,
    "torch:float32[4]+zero": lambda: torch._efficientzerotensor((4,)),
    "torch:float32[4,4]+sparse_coo": lambda: torch.eye(4).to_sparse(),
    "torch:float32[4,4]+sparse_csc": lambda: torch.eye(4).to_sparse_csc(),
    "torch:float32[2,3]+mkldnn": lambda: torch.ones(2, 3).to_mkldnn(),
    "torch:quint8[3]": lambda: torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.quint8),
    "torch:torch.quint8[3]": lambda: torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.quint8),
    "torch:torch.uint4[3]": lambda: torch.zeros(3, dtype=torch.uint8).view(torch.uint4),
    "torch:float32[2,?]+nested": lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]),
    "torch:float32[3]@meta": lambda: torch.zeros(3, device="meta"),
    "torch:float32[2]+fake": fake,
    "torch:complex64[4]+conj+neg": lambda: torch._neg_view(torch.zeros(4, dtype=torch.complex64)).conj(),
    "torch:int64[3,0]": lambda: torch.zeros(3, 0, dtype=torch.int64),
    "torch:int64[0,3]": lambda: torch.zeros(0, 3, dtype=torch.int64),
    "torch:bool[2,3]+strides=1,2": lambda: torch.zeros(3, 2, dtype=torch.bool).T,
    "jax:float32[2]": lambda: jnp.zeros(2),
    "jax:bfloat16[2,0]": lambda: jnp.zeros((2, 0), "bfloat16"),
    "jax:float32[2,3]+strides=1,2": permuted,
    "jax:jax.int4[2]": lambda: jnp.zeros(2, "int4"),
    "jax:float32[2,3]+traced": lambda: traced(jnp.zeros((2, 3))),
    "jax:float32[2,3]+deleted": lambda: deleted(jnp.zeros((2, 3))),
    "array_api_strict:float64[2,3]": lambda: array_api_strict.zeros((2, 3)),
    "array_api_strict:int8[]": lambda: array_api_strict.asarray(1, dtype=array_api_strict.int8),
    "array_api_strict:bool[3]@ext:1": lambda: strict(np.zeros(3, bool), "device1"),
    "array_api_strict:float32[2]+readonly+unaligned": lambda: strict(readonly(np.zeros(9, "uint8")[1:].view("float32"))),
    "array_api_strict:complex128[2]+odd_strides": lambda: strict(np.zeros(2, {"names": ["a", "b"], "formats": ["c16", "f8"]})["a"]),
}


@pytest.mark.filterwarnings("ignore:Sparse CSC:UserWarning", "ignore:The PyTorch API of nested tensors:UserWarning")
@pytest.mark.filterwarnings("ignore:Converting mask without:UserWarning", "ignore:.*quantize.*")
@pytest.mark.parametrize("spec", REAL)
def test_a_spec_is_the_description_of_such_an_array(spec):
    x = REAL[spec]()
    seen = describe(x).replace(pointer=None, advice="")
    assert parse(spec) == seen
    assert parse(format_description(describe(x))) == seen


def test_the_comparison_can_fail():
    assert parse("numpy:float32[3]") != describe(np.zeros(3, "float32")[::-1]).replace(pointer=None)


@pytest.mark.parametrize("dtype", sorted(load_backend("numpy").capabilities.dtypes))
def test_a_scalar_has_the_type_of_its_dtype(dtype):
    scalar = np.zeros((), numpy_backend.native_dtype(dtype))[()]
    assert parse(f"numpy:{dtype}[]+scalar") == describe(scalar).replace(pointer=None)


def test_no_array_of_jax_can_be_written_to():
    assert parse("jax:float32[2]").readonly
    assert parse("jax:float32[2]@cuda:1").readonly
    assert format_description(parse("jax:float32[2]")) == "jax:float32[2]"
    with pytest.raises(ValueError, match="no notation for"):  # the negative control
        format_description(parse("jax:float32[2]").replace(readonly=False))


def test_defaults_are_those_of_the_libraries():
    assert parse("cupy:float32[3]").device == Device("cuda", 0)
    assert parse("cupy:float32[3]@cuda:1+managed").memory == "managed"
    assert parse("torch:bfloat16[64,64]@cuda:0+grad").nbytes == 64 * 64 * 2
    assert parse("torch:bfloat16[64,64]").strides == (64, 1)


def test_every_backend_can_be_described_on_all_of_its_devices():
    assert set(LIBRARIES) == {*BUILTIN, FOREIGN}
    for name, library in LIBRARIES.items():
        assert set(library.devices) == load_backend(name).capabilities.devices, name


def example(word):
    """Return the plainest spec with a flag."""
    flag = FLAGS[word]
    kinds = {"": "float32", "quantized": "quint8", "complex": "complex64"}
    dtype = kinds.get(flag.kinds[0] if flag.kinds else "", "float32")
    device = f"@{flag.devices[0]}" if flag.devices else ""
    return f"{flag.libraries[-1]}:{dtype}[{'' if word == 'scalar' else '2'}]{device}+{word}"


@pytest.mark.parametrize("word", FLAGS)
def test_every_flag_changes_what_its_row_says(word):
    made = parse(example(word))
    for field, value in FLAGS[word].changes.items():
        assert getattr(made, field) == ((value,) if field == "pending" else value)
    assert made != parse(example(word).rpartition("+")[0]) or word == "quantized"  # which the dtype says already
    assert parse(format_description(made)) == made


@pytest.mark.parametrize("word", FLAGS)
def test_every_flag_can_be_planned(word):
    made = parse(example(word))
    assert str(explain(made, "numpy" if made.backend != "numpy" else "torch"))


@st.composite
def specs(draw):
    name = draw(st.sampled_from(sorted(LIBRARIES)))
    known = [word for word, flag in FLAGS.items() if name in flag.libraries]
    words = draw(st.lists(st.sampled_from([*known, "strides"]), unique=True, max_size=3))
    shape = draw(st.lists(st.integers(0, 5), max_size=3))
    steps = draw(st.lists(st.integers(-40, 40), min_size=len(shape), max_size=len(shape)))
    dtype = draw(st.sampled_from([*DTYPES, "quint8", "torch.int4", "object"]))
    place = draw(st.sampled_from(["", *(f"@{device}" for device in LIBRARIES[name].devices), "@cuda:1"]))
    flags = "".join(f"+strides={','.join(map(str, steps))}" if word == "strides" else f"+{word}" for word in words)
    return f"{name}:{dtype}[{','.join(map(str, shape))}]{place}{flags}"


@given(specs())
def test_what_is_read_is_written_and_read_again(spec):
    try:
        description = parse(spec)
    except ValueError:  # an impossible combination; Hypothesis fails the test if it is most of them
        reject()
    written = format_description(description)
    assert parse(written) == description
    assert format_description(parse(written)) == written


def test_what_no_spec_can_say_is_refused():
    plain = Description(backend="torch", type="torch.Tensor", shape=(2,), strides=(1,), nbytes=8)
    assert format_description(plain) == "torch:float32[2]"
    for lost in ({"layout": "wrapper Mine"}, {"dtype": "packed float4_e2m1fnx2"}, {"readonly": True}, {"nbytes": 9}):
        with pytest.raises(ValueError, match="no notation for"):
            format_description(plain.replace(**lost))


WRONG = {
    "": "write LIBRARY:DTYPE[SHAPE]@DEVICE+FLAG",
    "torch": "as in 'torch:float32[2,3]@cuda:0+grad'",
    "torch:float32": "[] is a 0-d array",
    "trch:float32[2]": f"did you mean 'torch'? Known: {', '.join(LIBRARIES)}.",
    "torch:flot32[2]": "did you mean 'float32'?",
    "torch:float32[2]@cdua": "did you mean 'cuda'?",
    "numpy:float32[2]@cuda": "numpy arrays do not live on cuda:0; write @cpu",
    "torch:float32[2]+gard": "did you mean 'grad'?",
    "torch:float32[2]+stride=3": "did you mean 'strides='?",
    "torch:float32[2]+": "'+' is not a flag",
    "torch:float32[a]": "'a' is not a number; write each extent as one, as in [2,3]",
    "torch:float32[-2]": "'-2' is not a number",
    "torch:float32[?]": "write a number, or +nested or +fake",
    "torch:float32[2]+strides=1,2": "strides= needs one number for each axis, in elements: 1, not 2",
    "torch:float32[2]+strides=x": "'x' is not a number; write each stride as one",
    "torch:float32[2]+mkldnn+strides=1": "strides= contradicts a flag",
    "numpy:float32[2]+grad": "'+grad' is for torch and dlpack arrays only, not for numpy's",
    "jax:float32[2]+readonly": "'+readonly' is for numpy and array_api_strict and dlpack arrays only, not for jax's",
    "jax:float32[2]+fake": "'+fake' is for torch arrays only, not for jax's",
    "array_api_strict:float32[2]@cuda": "array_api_strict arrays do not live on cuda:0; write @cpu",
    "torch:int32[2]+grad": "needs a float or complex dtype, as float32; this is int32",
    "torch:float32[2]+quantized": "needs a quantized dtype, as quint8",
    "torch:float32[2]+fake+meta": "'+meta' and '+fake' contradict each other",
    "torch:float32[2]@cuda:1+meta": "'+meta' contradicts @cuda:1",
    "torch:float32[2]@cuda+pinned": "memory is that of @cpu, not of cuda:0",
    "torch:bool[]+pinned+meta": "memory is that of @cpu, not of meta",
    "numpy:float32[2]+scalar": "write [] for the shape",
}


@pytest.mark.parametrize("spec", WRONG)
def test_a_wrong_word_is_answered_with_the_right_one(spec):
    with pytest.raises(ValueError, match=r".") as caught:
        parse(spec)
    assert WRONG[spec] in str(caught.value)
    assert str(caught.value).startswith(repr(spec))


LOADED = "import sys, interop.notation; {}; print(sorted({{'numpy', 'torch', 'cupy', 'jax', 'array_api_strict'}} & set(sys.modules)))"


@pytest.mark.parametrize(
    ("then", "loaded"),
    [
        ("interop.notation.parse('torch:float32[2]+grad')", "[]"),
        ("interop.notation.parse('jax:float32[2]+traced')", "[]"),
        ("interop.explain(interop.notation.parse('dlpack:int8[2]'), 'numpy')", "['numpy']"),
    ],
)
def test_reading_a_spec_imports_no_array_library(then, loaded):
    done = subprocess.run([sys.executable, "-c", LOADED.format(then)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == loaded


def test_the_plan_of_a_spec_is_the_plan_of_the_array():
    x = torch.zeros(2, 3, requires_grad=True)
    planned = explain(parse("torch:float32[2,3]+grad"), "numpy", grad="detach")
    assert [step.kind for step in planned.steps] == [step.kind for step in explain(x, "numpy", grad="detach").steps]
    assert convert(x, "numpy", grad="detach").nbytes == planned.description.nbytes
