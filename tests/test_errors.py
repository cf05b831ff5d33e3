"""The family of errors: builtins, codes, pickling, and texts that can be read aloud."""

import concurrent.futures
import copy
import multiprocessing
import pickle
import traceback

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


def sparse_and_tracked():
    return interop.to_numpy(torch.eye(3, dtype=torch.complex64).to_sparse().requires_grad_(), copy=False)


def everything_at_once():
    return caught(sparse_and_tracked)


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


PARAMETER = torch.nn.Parameter(torch.ones(3))


@interop.neutral(runs_on="numpy", copy=False)
def decorated(x):
    return x


REFUSED = {
    "one": lambda: interop.to_numpy(PARAMETER),
    "several": sparse_and_tracked,
    "a keyword replaced": lambda: interop.to_torch(np.ones(3)[::-1], copy=False, device="cpu"),
    "a policy": lambda: interop.convert(PARAMETER, like=np.ones(2), policy=interop.STRICT, dtype="float64"),
    "a tree": lambda: interop.tree.convert({"a": PARAMETER, "b": [PARAMETER, torch.eye(2).to_sparse()]}, "numpy"),
    "a tree's own keyword": lambda: interop.tree.convert([np.ones(2)[::-1], "x"], "torch", copy=False, others="error"),
    "a decorated function": lambda: decorated(PARAMETER),
    "final": lambda: interop.to_numpy(torch.ones(2, device="meta")),
    "no array": lambda: interop.to_torch([1.0]),
}


def refusal(name):
    with pytest.raises(InteropError) as found:
        REFUSED[name]()
    return found.value


class Own(interop.GradError):
    """An error of a user's, whose class takes something else."""

    def __init__(self, number, *, text):
        super().__init__(text, permissions={"grad": "detach"})
        self.number = number


@pytest.mark.parametrize("again", [lambda e: pickle.loads(pickle.dumps(e)), copy.copy, copy.deepcopy], ids=["pickle", "copy", "deepcopy"])
@pytest.mark.parametrize("name", REFUSED)
def test_errors_travel_with_their_recipe(name, again):
    error = refusal(name)
    other = again(error)
    assert type(other) is type(error)
    assert str(other) == str(error)
    assert (other.permissions, other.hint, other.refusals) == (error.permissions, error.hint, error.refusals)
    assert other.description == error.description


@pytest.mark.parametrize("kind", ERRORS.values())
def test_every_class_travels(kind):
    error = kind("what", hint="why", permissions={"grad": "detach"})
    for other in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert (type(other), str(other), other.permissions) == (kind, "what\n\nHint: why", {"grad": "detach"})


def test_a_class_of_ones_own_travels():
    other = pickle.loads(pickle.dumps(Own(3, text="what")))
    assert (type(other), other.number, str(other), other.permissions) == (Own, 3, "what", {"grad": "detach"})


def test_the_arrays_stay_behind():
    big = np.zeros((1000, 1000))[::-1]
    error = caught(lambda: interop.to_torch(big, copy=False))
    assert len(pickle.dumps(error)) < 10_000
    assert error.retry().shape == big.shape
    with pytest.raises(RuntimeError, match="copy"):
        pickle.loads(pickle.dumps(error)).retry()


# What is left of an error where a framework keeps only its text.


def in_a_group(error):
    return "".join(traceback.format_exception(ExceptionGroup("several", [error])))


def with_a_note(error):
    noted = copy.copy(error)
    noted.add_note("in worker 3")
    return "".join(traceback.format_exception(noted))


def after_another(error):
    other = interop.LayoutError("to_numpy(x) cannot convert a thing; blocked by:", hint="write to_numpy(x, layout='dense')")
    error = copy.copy(error)
    error.__cause__ = other
    return "".join(traceback.format_exception(error))


@pytest.mark.parametrize("text", [str, in_a_group, with_a_note, after_another])
@pytest.mark.parametrize("name", REFUSED)
def test_an_error_made_of_the_text_of_another_has_its_permissions(name, text):
    error = refusal(name)
    other = type(error)(text(error))
    assert other.permissions == error.permissions
    assert error.hint in other.hint
    assert str(other) == text(error)
    assert pickle.loads(pickle.dumps(other)).permissions == error.permissions


@pytest.mark.parametrize(
    "text",
    [
        "it went wrong",
        "it went wrong\n\nHint: Do it otherwise.",
        "f has no rule\n\nHint: Make it of wrapped functions, and write wrap(..., once_differentiable=False): then it is given tensors.",
        "to_torch(x) got no array\n\nHint: write to_torch(x, grad='detach')",
    ],
)
def test_other_texts_have_no_permissions(text):
    """The negative control: words that are no recipe of the call that was refused."""
    assert InteropError(text).permissions == {}


class Refusing(torch.utils.data.Dataset):
    def __len__(self):
        return 1

    def __getitem__(self, number):
        return REFUSED["several"]()


SPAWN = multiprocessing.get_context("spawn")  # a fork of a process that has JAX may wait forever


def test_a_data_loaders_worker_keeps_them():
    """It makes a new error of the class, of the traceback's text (pytorch#34130)."""
    with pytest.raises(interop.LayoutError) as found:
        next(iter(torch.utils.data.DataLoader(Refusing(), num_workers=1, multiprocessing_context=SPAWN)))
    assert found.value.permissions == refusal("several").permissions
    assert "DataLoader worker process" in str(found.value)


def test_a_pool_keeps_them():
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=SPAWN) as pool:
        error = pool.submit(refuse, "several").exception()
    assert type(error) is interop.LayoutError
    assert error.permissions == refusal("several").permissions
    assert error.refusals == refusal("several").refusals


def refuse(name):
    return REFUSED[name]()


# The call again.


@pytest.mark.parametrize("name", ["one", "several", "a keyword replaced", "a policy", "a tree", "a tree's own keyword"])
def test_a_refused_call_is_repeated_with_its_permissions(name):
    assert refusal(name).retry() is not None


@pytest.mark.parametrize("name", ["final", "no array"])
def test_a_final_refusal_is_raised_again(name):
    error = refusal(name)
    with pytest.raises(type(error)) as found:
        error.retry()
    assert found.value is error


def test_a_retry_may_be_refused_for_another_reason():
    """The permissions replace the call's own keywords, and nothing else: not the guards around the retry."""
    error = refusal("one")
    with interop.guard(grads="error"), pytest.raises(interop.GradError, match="guard"):
        error.retry()


def test_a_retry_without_waiting_returns_at_once():
    error = caught(lambda: interop.to_numpy(PARAMETER, blocking=False))
    assert isinstance(error.retry(), interop.Transfer)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: interop.to_torch(np.array(["2026"], "datetime64[Y]")), "x.view('int64')"),
        (lambda: interop.to_torch(np.zeros(2, [("a", "f4")])), "x['a']"),
        (lambda: interop.to_torch(np.array([object()])), "objects of Python's"),
        (lambda: interop.to_torch("photo.png"), "a file has to be read first"),
        (lambda: interop.to_torch([1.0]), "numpy.asarray(x)"),
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
