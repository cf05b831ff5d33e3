"""Neutral functions: the namespace is found, mixed libraries are refused by name or converted, results come back."""

import asyncio
import dataclasses
import functools
import inspect
import subprocess
import sys
from typing import Any

import array_api_compat
import array_api_strict
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import interop
from interop import neutral
from interop._neutral import decorator as decorate
from interop.errors import DTypeError, GradError, MixedBackendsError, ReadOnlyError, TransferError, UnsupportedTypeError

ARRAYS = {
    "numpy": lambda: np.asarray([1.0, 3.0], dtype="float32"),
    "torch": lambda: torch.tensor([1.0, 3.0]),
    "jax": lambda: jnp.asarray([1.0, 3.0]),
    "array_api_strict": lambda: array_api_strict.asarray([1.0, 3.0], dtype=array_api_strict.float32),
    "array_api_strict:device1": lambda: array_api_strict.asarray(
        [1.0, 3.0], dtype=array_api_strict.float32, device=array_api_strict.Device("device1")
    ),
}
EVERY = pytest.mark.parametrize("make", ARRAYS.values(), ids=ARRAYS)


@dataclasses.dataclass
class Options:
    weights: Any
    name: str = "w"


@neutral
def space(*args, k=None, xp=None, **more):
    """Return the namespace."""
    return xp


@neutral
def ratio(x, y=2.0, *, xp=None):
    return xp.divide(x, y) if hasattr(y, "shape") else x / y


# The namespace.


@EVERY
@pytest.mark.parametrize(
    "call",
    [
        space,
        lambda x: space(3, None, "s", x),
        lambda x: space(k=x),
        lambda x: space(1.0, extra=x),
        lambda x: space([x, 3]),
        lambda x: space({"a": (x,)}, 2),
        lambda x: space(k=Options(x)),
        lambda x: space(x, x, k=[x]),
        lambda x: space(x, np.float64(2)),
        lambda x: space(np.int64(2), k=x),
    ],
)
def test_the_namespace_is_found_wherever_the_array_is(make, call):
    x = make()
    for _ in range(2):  # the second call takes the fast path, where there is one
        assert call(x) is array_api_compat.array_namespace(x)


@EVERY
def test_the_result_is_the_functions_own(make):
    x = make()
    found = ratio(x)
    assert type(found) is type(x)
    assert [float(found[0]), float(found[1])] == [0.5, 1.5]


def test_numpy_scalars_alone_are_numpys():
    assert space(np.float64(2)) is array_api_compat.numpy


def test_an_xp_that_the_caller_gives_is_kept():
    assert space(torch.ones(1), xp=np) is np

    @neutral
    def by_position(x, xp=None, y=None):
        return xp

    assert by_position(torch.ones(1), np) is np
    assert by_position(torch.ones(1), None, 3) is array_api_compat.torch
    assert by_position(torch.ones(1), xp=None) is array_api_compat.torch
    assert by_position(3.0, np) is np


def test_a_function_without_xp_is_only_checked():
    @neutral
    def first(x, y=None):
        return x

    t = torch.ones(1)
    assert first(t) is t
    assert first(3) == 3
    with pytest.raises(MixedBackendsError):
        first(t, np.ones(1))


def test_no_array_no_namespace():
    with pytest.raises(UnsupportedTypeError, match=r"space\(\.\.\.\) got no array among its arguments"):
        space(3.0, "x")
    with pytest.raises(UnsupportedTypeError):
        space(3.0, xp=None)
    assert space(3.0, xp=np) is np


def test_it_works_while_jax_traces():
    import jax

    traced = jax.jit(lambda x: ratio(x, x))(jnp.ones(2))
    assert float(traced[0]) == 1.0
    assert float(jax.grad(ratio)(3.0)) == 0.5


def test_gradients_flow_through_a_plain_function():
    x = torch.tensor([2.0], requires_grad=True)
    ratio(x, x.detach()).sum().backward()
    assert x.grad == 0.5


# What is mixed.


def test_mixed_libraries_are_refused_each_by_name():
    for _ in range(2):
        with pytest.raises(MixedBackendsError) as caught:
            space(torch.ones(1), 3, [np.ones(1), {"a": torch.ones(1)}], k=Options(jnp.ones(1)))
        assert str(caught.value).splitlines()[:5] == [
            "space(...) got arrays of several libraries:",
            "  - args[0]: torch on cpu",
            "  - args[2][0]: numpy on cpu",
            "  - args[2][1]['a']: torch on cpu",
            "  - k.weights: jax on cpu",
        ]
        assert "like='first'" in caught.value.hint


def test_mixed_devices_are_refused_each_by_name():
    with pytest.raises(MixedBackendsError, match="several devices") as caught:
        ratio(torch.ones(1), torch.ones(1, device="meta"))
    assert "  - x: torch on cpu\n  - y: torch on meta" in str(caught.value)
    one, other = ARRAYS["array_api_strict"](), ARRAYS["array_api_strict:device1"]()
    with pytest.raises(MixedBackendsError):
        ratio(one, other)
    ratio(other, other)  # the negative control


@pytest.mark.parametrize("first", ARRAYS.values(), ids=ARRAYS)
@pytest.mark.parametrize("second", ARRAYS.values(), ids=ARRAYS)
def test_everything_follows_the_first(first, second):
    @neutral(like="first", transfer="allow", readonly="share")
    def add(x, pair, *, xp=None):
        assert array_api_compat.array_namespace(x) is xp
        return xp.add(x, pair["y"])

    x, y = first(), second()
    found = add(x, {"y": y, "n": 2})
    assert type(found) is type(x)
    assert array_api_compat.device(found) == array_api_compat.device(x)
    assert [float(found[0]), float(found[1])] == [2.0, 6.0]


def score(y_true, y_pred, weight=None, *, xp=None):
    return xp.asarray(y_true - y_pred)


@pytest.mark.parametrize("order", [("y_true", "y_pred"), ("y_pred", "y_true"), ("y_pred", "weight", "y_true")], ids="-".join)
def test_the_first_is_that_of_the_signature_however_the_call_is_written(order):
    """As in scikit-learn#28668."""
    given = {"y_true": np.ones(2), "y_pred": torch.ones(2), "weight": torch.ones(2)}
    assert type(neutral(like="first")(score)(**{name: given[name] for name in order})) is np.ndarray
    one, other = ARRAYS["array_api_strict"](), ARRAYS["array_api_strict:device1"]()
    follow = neutral(like="first", transfer="allow")(score)
    assert follow(y_pred=other, y_true=one).device == follow(y_true=one, y_pred=other).device == one.device


def test_keywords_without_a_parameter_lead_last_and_by_name():
    follow = neutral(like="first")(lambda x=None, **more: (x, *more.values()))
    assert {type(one) for one in follow(b=torch.ones(1), a=np.ones(1))} == {type(None), np.ndarray}
    assert {type(one) for one in follow(a=np.ones(1), x=torch.ones(1))} == {torch.Tensor}


def test_the_function_gets_keywords_in_the_order_of_the_call():
    for words in ({"like": "first"}, {"runs_on": "numpy"}):
        follow = neutral(**words, grad="detach")(lambda x, **more: list(more))
        assert follow(b=torch.ones(1), a=torch.ones(1), x=torch.ones(1)) == ["b", "a"]


@pytest.mark.parametrize("runs_on", [None, "numpy"])
@pytest.mark.parametrize("swap", [False, True])
def test_a_parameter_can_lead(swap, runs_on):
    """As in scikit-learn#31274 and #34221."""
    follow = neutral(like="y_pred", runs_on=runs_on)(score)
    one, other = (torch.ones(2), np.ones(2)) if swap else (np.ones(2), torch.ones(2))
    assert type(follow(one, other)) is type(other)
    assert type(follow(y_pred=other, y_true=one)) is type(other)
    assert type(follow(3.0, y_pred=other)) is type(other)
    assert type(follow(one, 3.0)) is type(one)  # nothing to follow there, and nothing is mixed
    with pytest.raises(MixedBackendsError, match=r"y_true: (?s:.*)weight: "):
        follow(one, 3.0, weight=other)


def test_a_tree_can_lead_and_so_can_arguments_without_names():
    lead = neutral(like="options")(lambda x, options: x)
    assert type(lead(torch.ones(1), Options([np.ones(1)]))) is np.ndarray
    assert type(lead(np.ones(1), {"a": [None, torch.ones(1)]})) is torch.Tensor
    last = neutral(like="rest")(lambda x, *rest: x)
    assert type(last(torch.ones(1), 2, np.ones(1))) is np.ndarray


def test_everything_goes_to_a_named_library():
    @neutral(to="torch")
    def add(x, y, *, xp=None):
        return xp.add(x, y), xp

    for x, y in [(np.ones(2), torch.ones(2)), (torch.ones(2), np.ones(2)), (np.ones(2), np.ones(2)), (np.ones(2), np.float64(1))]:
        found, xp = add(x, y)
        assert type(found) is torch.Tensor
        assert xp is array_api_compat.torch


def test_what_is_converted_is_asked_for_permission():
    @neutral(like="first")
    def add(x, y):
        return x + y

    p = torch.ones(2, dtype=torch.float64, requires_grad=True)
    with pytest.raises(GradError) as caught:
        add(np.ones(2), [p, 1])
    assert "at y[0]" in str(caught.value)
    assert caught.value.permissions == {"grad": "detach"}
    assert "grad='detach' into its @neutral(...)" in caught.value.hint
    with interop.policy(**caught.value.permissions):
        add(np.ones(2), p)
    with pytest.raises(TransferError):
        add(ARRAYS["array_api_strict"](), ARRAYS["array_api_strict:device1"]())


def test_one_object_given_twice_is_one_object_there():
    @neutral(to="torch")
    def same(x, y, *, z):
        return x is y is z[0]

    a = np.ones(2)
    assert same(a, a, z=[a])
    assert not same(a, a, z=[a.copy()])


# A function that is written for one library.


@EVERY
def test_results_come_back_in_the_callers_library_and_device(make):
    @neutral(runs_on="numpy", transfer="allow")
    def statistics(x, scale, *, options=None):
        assert type(x) is type(options.weights) is np.ndarray
        assert type(scale) is float
        return {"sum": np.sum(x), "parts": (x * scale, [x[::-1]]), "n": 2, "none": None, "word": "w"}

    x = make()
    found = statistics(x, 2.0, options=Options(make()))
    arrays = [found["sum"], found["parts"][0], found["parts"][1][0]]
    for one in arrays:
        if not isinstance(x, np.ndarray):
            assert type(one) is type(x)
        assert array_api_compat.device(one) == array_api_compat.device(x)
    assert float(found["sum"]) == 4.0
    assert [float(found["parts"][0][n]) for n in range(2)] == [2.0, 6.0]
    assert [float(found["parts"][1][0][n]) for n in range(2)] == [3.0, 1.0]
    assert (found["n"], found["none"], found["word"]) == (2, None, "w")


def test_numpys_own_caller_gets_the_results_as_they_are():
    @neutral(runs_on="numpy")
    def total(x):
        return np.sum(x)

    assert type(total(np.ones(2))) is np.float64
    assert type(total(torch.ones(2))) is torch.Tensor


def test_memory_is_shared_there_and_back():
    @neutral(runs_on="numpy")
    def same(x):
        return x[1:]

    t = torch.arange(4.0)
    back = same(t)
    assert interop.shares_memory(back, t)
    with interop.policy(copy=True):
        assert not interop.shares_memory(same(t), t)


def test_it_runs_on_others_too():
    @neutral(runs_on="torch")
    def double(x, *, xp=None):
        assert xp is array_api_compat.torch
        return torch.mul(x, 2)

    assert type(double(np.ones(2))) is np.ndarray

    @neutral(runs_on=jnp, readonly="share", casting="same_kind")
    def triple(x):
        return jnp.multiply(x, 3)

    found = triple(torch.ones(2))
    assert type(found) is torch.Tensor
    assert float(found[0]) == 3.0


def test_what_is_read_only_there_is_copied_back_or_asked():
    @neutral(runs_on="jax")
    def double(x):
        return x * 2

    found = double(torch.ones(16))  # JAX's memory is read-only, and torch has no such tensors: by default a copy
    found[0] = 7
    with interop.policy(readonly="error"), pytest.raises(ReadOnlyError, match="JAX arrays are immutable"):
        double(torch.ones(16))

    @neutral(runs_on="numpy")
    def fixed(x):
        made = x + 1
        made.flags.writeable = False
        return made

    with interop.policy(readonly="error"), pytest.raises(ReadOnlyError, match="the result of fixed") as caught:
        fixed(torch.ones(16))
    assert "at result" in str(caught.value)


def test_mixed_arguments_need_a_leader_there_too():
    def add(x, y):
        assert type(x) is type(y) is np.ndarray
        return x + y

    with pytest.raises(MixedBackendsError):
        neutral(runs_on="numpy")(add)(torch.ones(2), np.ones(2))
    following = neutral(runs_on="numpy", like="first")(add)
    assert type(following(torch.ones(2), np.ones(2))) is torch.Tensor
    assert type(following(np.ones(2), torch.ones(2))) is np.ndarray
    named = neutral(runs_on="numpy", to="torch")(add)
    assert type(named(np.ones(2), torch.ones(2))) is torch.Tensor
    assert type(named(np.ones(2), np.ones(2))) is torch.Tensor


def test_without_an_array_it_is_the_function_itself():
    @neutral(runs_on="numpy")
    def double(x):
        return np.float64(x * 2)

    assert type(double(3)) is np.float64


def test_a_gradient_is_not_dropped_unasked():
    def total(x):
        return x.sum()

    p = torch.ones(2, requires_grad=True)
    with pytest.raises(GradError, match="at x"):
        neutral(runs_on="numpy")(total)(p)
    assert float(neutral(runs_on="numpy", grad="detach")(total)(p)) == 2.0
    assert float(neutral(runs_on="numpy", policy="coerce")(total)(p)) == 2.0


def test_a_result_that_does_not_fit_is_refused_and_named():
    @neutral(runs_on="numpy")
    def inverse(x):
        return {"inverse": np.linalg.inv(x.astype("float64"))}

    with pytest.raises(DTypeError, match="the result of inverse") as caught:
        inverse(jnp.eye(2))
    assert "at result['inverse']" in str(caught.value)
    with interop.policy(**caught.value.permissions):
        assert inverse(jnp.eye(2))["inverse"].dtype == "float32"


def test_a_guard_holds_inside():
    @neutral(runs_on="numpy")
    def copied(x):
        return x[::-1]

    with interop.guard(copies="error"), pytest.raises(interop.CopyError, match="result"):
        copied(torch.ones(3))


def test_what_the_function_writes_into_arguments_without_arrays_is_there():
    @neutral(runs_on="numpy")
    def work(x, log, options, *more, out):
        log.append("done")
        options["count"] = 3
        more[0]["seen"] = True
        out["result"] = x + 1
        return x

    log, options, more, out = [], {"nested": [1]}, {}, {}
    work(torch.ones(2), log, options, more, out=out)
    assert (log, options, more) == (["done"], {"nested": [1], "count": 3}, {"seen": True})
    assert type(out["result"]) is np.ndarray
    following = neutral(like="first")(lambda x, xs: xs.append(x))
    xs = [torch.ones(1)]
    following(torch.ones(2), xs)  # of the library already: nothing changes, so the list is the caller's
    assert len(xs) == 2


def test_results_in_scipys_and_scikit_learns_own_containers_come_back():
    from scipy import optimize, stats

    minimum = neutral(runs_on="numpy")(lambda x: optimize.minimize(lambda v: ((v - 2) ** 2).sum(), x))(torch.zeros(2, dtype=torch.float64))
    assert type(minimum) is optimize.OptimizeResult
    assert type(minimum.x) is torch.Tensor
    assert abs(float(minimum.x[0]) - 2) < 1e-6
    tested = neutral(runs_on="numpy")(stats.ttest_ind)(torch.arange(4.0), torch.arange(4.0) + 1)
    assert type(tested.statistic) is torch.Tensor
    assert type(neutral(runs_on="numpy")(stats.pearsonr)(torch.arange(4.0), torch.arange(4.0)).statistic) is torch.Tensor


def test_mixed_libraries_in_odd_containers_are_seen():
    from collections import Counter, UserDict

    for odd in (Counter(k=torch.ones(1)), UserDict(k=torch.ones(1))):
        with pytest.raises(MixedBackendsError, match=r"k\['k'\]: torch"):
            space(np.ones(1), k=odd)


def test_a_type_whose_namespace_depends_on_the_array_is_not_learnt():
    code = (
        "import numpy as np, jax, interop, array_api_compat\n@interop.neutral\ndef space(x, xp=None): return xp\n"
        "zero = np.zeros(3, jax.dtypes.float0)\nfirst = space(zero)\n"
        "assert first is array_api_compat.array_namespace(zero)\nassert space(np.ones(2)) is array_api_compat.numpy"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr


def test_only_types_that_live_as_long_as_their_module_are_learnt():
    """The table holds them for good; array-api-compat, by comparison, holds the last hundred."""

    class Own(np.ndarray):
        pass

    assert space(np.ones(2).view(Own), Options(1)) is array_api_compat.numpy
    assert id(Own) not in decorate._kinds
    space(np.ones(2))
    assert id(np.ndarray) in decorate._kinds  # the negative control
    assert np.ndarray in decorate._lasting


# The hints, followed to the letter.


@pytest.mark.parametrize("scope", [False, True], ids=["in the decorator", "in scope"])
def test_the_hint_works(scope):
    def total(x):
        return x.sum()

    p = torch.ones(2, requires_grad=True)
    with pytest.raises(GradError) as caught:
        neutral(runs_on="numpy")(total)(p)
    assert caught.value.hint == "write grad='detach' into its @neutral(...), or call it inside `with interop.policy(grad='detach')`"
    if scope:
        with interop.policy(grad="detach"):
            neutral(runs_on="numpy")(total)(p)
    else:
        neutral(runs_on="numpy", grad="detach")(total)(p)


def test_the_hint_does_not_send_to_a_scope_that_the_decorator_outvotes():
    reverse = neutral(runs_on="torch", copy=False)(lambda x: x)
    with pytest.raises(interop.CopyError) as caught:
        reverse(np.ones(2)[::-1])
    assert caught.value.hint == "write copy=True into its @neutral(...)"


def plus(x, y, z=None):
    return x + y


def hinted(hint):
    """Return the keywords that a hint proposes for @neutral."""
    return eval(f"dict({hint.partition('let the function do it: ')[2].partition(' in ')[0]})")


LATER = {
    "libraries": (lambda: (np.ones(2), torch.ones(2)), {}),
    "devices": (lambda: (ARRAYS["array_api_strict"](), ARRAYS["array_api_strict:device1"]()), {}),
    "a gradient": (lambda: (np.ones(2), torch.ones(2, requires_grad=True)), {}),
    "a dtype": (lambda: (jnp.ones(2), np.ones(2)), {}),
    "a gradient there": (lambda: (torch.ones(2, requires_grad=True), np.ones(2)), {"runs_on": "numpy"}),
    "a permission that blocks the call": (lambda: (torch.ones(2), np.ones(2)[::-1]), {"runs_on": "torch", "copy": False}),
    "a parameter without an array": (lambda: (torch.ones(2), np.ones(2)), {"like": "z"}),
    "several devices of a library": (
        lambda: (ARRAYS["array_api_strict"](), ARRAYS["array_api_strict:device1"]()),
        {"to": "array_api_strict", "transfer": "error"},
    ),
}


@pytest.mark.parametrize("case", LATER)
def test_the_hint_for_mixed_arrays_works_to_the_letter(case):
    make, words = LATER[case]
    arrays = make()
    if "to" in words:  # there nothing is refused before a permission is
        neutral(**words | {"transfer": "allow"})(plus)(*arrays)
        return
    with pytest.raises(MixedBackendsError) as caught:
        neutral(**words)(plus)(*arrays)
    if "like" in words:
        assert "in the place of like='z'" in caught.value.hint
    found = neutral(**words | hinted(caught.value.hint))(plus)(*arrays)
    assert type(found) is type(arrays[0])


@pytest.mark.parametrize("case", ["libraries", "devices", "a gradient", "a dtype"])
def test_the_hint_to_convert_them_first_works_to_the_letter(case):
    one, other = LATER[case][0]()
    with pytest.raises(MixedBackendsError) as caught:
        neutral(plus)(one, other)
    call = caught.value.hint.partition("Convert them first (")[2].partition("), or let")[0].replace("...", "one")
    neutral(plus)(one, eval(call, {"interop": interop, "x": other, "one": one}))


def test_arrays_that_cannot_be_converted_get_a_hint_without_keywords():
    with pytest.raises(MixedBackendsError) as caught:
        neutral(plus)(torch.ones(2), torch.ones(2, device="meta"))
    assert caught.value.hint.startswith("Give arrays of one library, on one device. Not all of these can follow x: ")
    assert "like=" not in caught.value.hint


def test_the_hint_for_mixed_devices_works():
    def first(x, y):
        return x

    one, other = ARRAYS["array_api_strict"](), ARRAYS["array_api_strict:device1"]()
    with pytest.raises(MixedBackendsError, match=r"like='first', transfer='allow' in its @neutral") as caught:
        neutral(first)(one, other)
    assert "several devices" in str(caught.value)
    neutral(like="first", transfer="allow")(first)(one, other)


# What stays of the function.


def test_signature_docstring_and_name_stay():
    @neutral(runs_on="numpy")
    def f(x: int, /, y: float = 2.0, *rest: str, k: bytes = b"", **more: bool) -> None:
        """Do nothing."""

    assert str(inspect.signature(f)) == "(x: int, /, y: float = 2.0, *rest: str, k: bytes = b'', **more: bool) -> None"
    assert (f.__name__, f.__doc__, f.__module__) == ("f", "Do nothing.", __name__)
    assert f.__wrapped__ is not f


class Model:
    def __init__(self):
        self.weights = torch.ones(2)

    @neutral
    def method(self, x, xp=None):
        return self, xp

    @classmethod
    @neutral
    def of_class(cls, x, xp=None):
        return cls, xp

    @staticmethod
    @neutral
    def static(x, xp=None):
        return xp

    @neutral(runs_on="numpy")
    def converted(self, x, y):
        assert type(self.weights) is torch.Tensor
        return self, x + y


def test_methods():
    model = Model()
    for x in (np.ones(1), torch.ones(1)):
        xp = array_api_compat.array_namespace(x)
        assert model.method(x) == (model, xp)
        assert Model.method(model, x) == (model, xp)
        assert Model.of_class(x) == (Model, xp)
        assert model.static(x) is xp
    itself, found = model.converted(torch.ones(2), y=torch.ones(2))
    assert itself is model
    assert type(found) is torch.Tensor
    with pytest.raises(GradError, match=r"Model\.converted\(\.\.\.\) .*(?s:.*)at y"):
        model.converted(torch.ones(1), torch.ones(1, requires_grad=True))


def test_a_name_that_is_used_twice_is_no_trouble():
    @neutral(runs_on="numpy")
    def odd(x, /, **more):
        assert type(more["x"]) is np.ndarray
        return x - more["x"]

    assert float(odd(torch.ones(1), x=torch.zeros(1))) == 1.0


def test_coroutines_stay_coroutines():
    @neutral(runs_on="numpy")
    async def double(x):
        await asyncio.sleep(0)
        return x * 2

    assert inspect.iscoroutinefunction(double)
    assert type(asyncio.run(double(torch.ones(2)))) is torch.Tensor

    @neutral
    async def plain(x, *, xp=None):
        return xp

    assert inspect.iscoroutinefunction(plain)
    assert asyncio.run(plain(torch.ones(2))) is array_api_compat.torch


def test_functions_written_in_c_are_taken():
    import cv2

    blur = neutral(runs_on="numpy")(cv2.blur)
    picture = torch.ones(5, 5)
    assert type(blur(picture, (3, 3))) is torch.Tensor
    with pytest.raises(GradError, match=r"blur\(\.\.\.\) .*(?s:.*)at args\[0\]"):
        blur(torch.ones(5, 5, requires_grad=True), (3, 3))
    power = neutral(runs_on="numpy")(functools.partial(np.power, 2.0))
    assert float(power(torch.tensor([3.0]))) == 8.0


# Wrong use.


@pytest.mark.parametrize(
    ("words", "kind", "text"),
    [
        ({"runs_on": "numpi"}, ValueError, "did you mean 'numpy'"),
        ({"like": "fist"}, ValueError, "like='fist' is neither 'first' nor a parameter of <lambda>; did you mean 'first'"),
        ({"like": "points"}, ValueError, "did you mean 'point'"),
        ({"like": "torch"}, ValueError, "write to='torch'"),
        ({"like": "xp"}, ValueError, "nor a parameter"),
        ({"like": "more"}, ValueError, "nor a parameter"),
        ({"like": "self"}, TypeError, "like='self', the arrays that the object holds, is not supported yet"),
        ({"like": np.ones(1)}, TypeError, "like= is 'first' or the name of a parameter of <lambda>, got a value of type numpy.ndarray"),
        ({"like": "first", "to": "torch"}, TypeError, "give one of like= .* and to= .*, not both"),
        ({"to": "toch"}, ValueError, "did you mean 'torch'"),
        ({"to": "first"}, ValueError, "'first' is not a backend"),
        ({"grad": "detach"}, TypeError, "give like=, to= or runs_on="),
        ({"run_on": "numpy"}, TypeError, "did you mean 'runs_on'"),
        ({"mixed": "first"}, TypeError, "'mixed' is not a keyword of neutral; write like='first' .* or to="),
        ({"mixed": "torch", "runs_on": "numpy"}, TypeError, "'mixed' is not a keyword of neutral"),
        ({"backend": "numpy"}, TypeError, "'backend' is not a keyword of neutral; write runs_on="),
        ({"runs_on": "numpy", "gard": "detach"}, TypeError, "did you mean 'grad'"),
        ({"runs_on": "numpy", "grad": "detatch"}, ValueError, "did you mean 'detach'"),
        ({"runs_on": "numpy", "policy": "strickt"}, ValueError, "did you mean 'strict'"),
    ],
)
def test_wrong_keywords_are_refused_when_the_function_is_decorated(words, kind, text):
    with pytest.raises(kind, match=text):
        neutral(**words)(lambda point, *, xp=None, **more: point)


def test_what_cannot_be_decorated_is_refused():
    def generator(x):
        yield x

    with pytest.raises(TypeError, match="generator is a generator: what it yields could not be converted"):
        neutral(runs_on="numpy")(generator)
    assert list(neutral(generator)(np.ones(1)))
    for wrong in (classmethod(lambda cls, x: x), staticmethod(len), 3, int):
        with pytest.raises(TypeError, match="neutral decorates a function"):
            neutral(wrong)


def test_an_xp_that_could_not_be_given_is_refused():
    def by_position(x, xp=None, /):
        pass

    def in_front(xp, x):
        pass

    for wrong in (by_position, in_front, lambda *xp: None):
        with pytest.raises(TypeError, match="xp has to be given by keyword"):
            neutral(wrong)

    def own(x, xp=np):
        return xp

    assert neutral(own)(torch.ones(1)) is np  # it has one
    assert neutral(functools.partial(own, xp=torch))(np.ones(1)) is torch


def test_a_missing_argument_is_named_before_a_missing_array():
    with pytest.raises(TypeError, match="missing a required argument: 'x'"):
        ratio()
    with pytest.raises(TypeError, match="unexpected keyword argument 'z'"):
        ratio(1.0, z=3)


def test_an_array_may_be_called_cls():
    @neutral
    def head(cls, patches, *, xp=None):
        return xp

    with pytest.raises(MixedBackendsError):
        head(torch.ones(1), np.ones(1))
    assert head(torch.ones(1), torch.ones(1)) is array_api_compat.torch


def test_nothing_is_loaded_by_decorating():
    code = (
        "import sys, interop\n@interop.neutral\ndef f(x, xp=None): return xp\n"
        "print([n for n in ('torch', 'jax', 'numpy', 'optree', 'array_api_compat') if n in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
