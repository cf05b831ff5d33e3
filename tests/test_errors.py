"""The family of errors: builtins, codes, pickling, and texts that can be read aloud."""

import copy
import pickle

import numpy as np
import pytest
import torch

import interop
from interop.errors import ERRORS, InteropError

CONTRACT = {
    "GradError": (RuntimeError,),
    "TransferError": (BufferError, ValueError),
    "CopyError": (BufferError, ValueError),
    "ReadOnlyError": (interop.CopyError,),
    "DTypeError": (TypeError,),
    "LayoutError": (BufferError,),
    "MaskError": (ValueError,),
    "UnitsError": (ValueError,),
    "ProducerError": (BufferError,),
    "NoDataError": (BufferError,),
    "UnsupportedTypeError": (TypeError,),
    "BackendNotInstalledError": (ImportError,),
    "DeviceUnavailableError": (RuntimeError,),
    "MixedBackendsError": (TypeError,),
    "StreamError": (ValueError,),
}


@pytest.mark.parametrize(("name", "bases"), CONTRACT.items())
def test_each_error_is_also_what_callers_expect(name, bases):
    kind = getattr(interop, name)
    assert issubclass(kind, (InteropError, *bases))
    assert all(issubclass(kind, base) for base in bases)
    assert ERRORS[kind.code] is kind


def test_codes_are_unique_and_complete():
    assert {kind.__name__ for kind in ERRORS.values()} == {*CONTRACT, "InteropError"}


def caught(call):
    with pytest.raises(InteropError) as found:
        call()
    return found.value


def everything_at_once():
    tensor = torch.eye(3, dtype=torch.complex64).to_sparse().requires_grad_()
    return caught(lambda: interop.to_numpy(tensor, copy=False))


def test_all_obstacles_are_in_one_error():
    error = everything_at_once()
    assert type(error) is interop.LayoutError
    assert [refusal.code for refusal in error.refusals] == ["layout", "grad", "copy"]
    assert error.permissions == {"layout": "dense", "grad": "detach", "copy": True}
    assert all(f"[{refusal.code}] {refusal.reason}" in str(error) for refusal in error.refusals)
    assert error.description.layout == "sparse_coo"


def test_the_hint_is_the_call_to_write():
    error = caught(lambda: interop.convert(torch.ones(2, requires_grad=True), "numpy", dtype="float64", policy="strict"))
    assert error.hint == "write convert(x, 'numpy', dtype='float64', policy='strict', grad='detach', copy=True)"
    tensor = torch.ones(2, requires_grad=True)
    assert eval(error.hint.removeprefix("write "), {"convert": interop.convert, "x": tensor}).dtype == "float64"


@pytest.mark.parametrize("again", [lambda e: pickle.loads(pickle.dumps(e)), copy.copy, copy.deepcopy])
def test_errors_travel_with_their_recipe(again):
    error = everything_at_once()
    other = again(error)
    assert type(other) is type(error)
    assert str(other) == str(error)
    assert (other.permissions, other.hint, other.refusals) == (error.permissions, error.hint, error.refusals)
    assert other.description == error.description


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: interop.to_torch(np.array(["2026"], "datetime64[Y]")), "x.view('int64')"),
        (lambda: interop.to_torch(np.zeros(2, [("a", "f4")])), "x['name']"),
        (lambda: interop.to_torch(np.array([object()])), "x.astype('float64')"),
        (lambda: interop.to_torch("photo.png"), "a file has to be read first"),
        (lambda: interop.to_torch([1.0]), "numpy.asarray(x, dtype='float32')"),
        (lambda: interop.to_numpy(torch.empty(2, dtype=torch.int4)), "x.view(torch.uint8)"),
    ],
)
def test_final_refusals_say_what_to_do_instead(call, says):
    error = caught(call)
    assert says in error.hint
    assert error.permissions == {}


def test_a_cause_from_a_library_is_chained():
    class Refusing:
        def __dlpack_device__(self):
            return 1, 0

        def __dlpack__(self, **words):
            raise BufferError("not today")

    error = caught(lambda: interop.to_numpy(Refusing()))
    assert isinstance(error.__cause__, BufferError)
    assert "not today" in str(error)
