"""Policies, presets and scopes."""

import asyncio
import contextlib
import contextvars
import multiprocessing
import pickle
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import pytest

import interop
from interop import COERCE, DEFAULT, STRICT, Policy, policy
from interop._model.policy import FIELDS, current_policy, resolve_policy


def test_the_first_value_is_the_default():
    assert Policy().as_dict() == {name: field.values[0] for name, field in FIELDS.items()}
    assert Policy() == DEFAULT


def test_presets():
    assert STRICT.copy is False
    assert all(getattr(STRICT, name) == FIELDS[name].values[0] for name in FIELDS if name not in ("readonly", "copy"))
    assert STRICT.readonly == "error"
    assert COERCE.readonly == "copy"
    assert COERCE.copy is None
    assert COERCE.extension == "keep"
    assert all(getattr(COERCE, name) == FIELDS[name].values[-1] for name in FIELDS if name not in ("readonly", "copy", "extension"))


@pytest.mark.parametrize(
    ("words", "error", "says"),
    [
        ({"grda": "detach"}, TypeError, "'grda' is not a permission; did you mean 'grad'"),
        ({"grad": "detatch"}, ValueError, "did you mean 'detach'"),
        ({"grad": None}, ValueError, "Values: 'error', 'detach'"),
        ({"copy": 0}, ValueError, "Values: None, False, True"),
        ({"copy": "never"}, ValueError, "copy='never'"),
        ({"casting": "same-kind"}, ValueError, "did you mean 'same_kind'"),
        ({"nothing_like_it": 1}, TypeError, "Known: copy, grad"),
    ],
)
def test_wrong_fields_and_values(words, error, says):
    for make in (lambda: Policy(**words), lambda: DEFAULT.replace(**words), lambda: policy(**words).__enter__()):
        with pytest.raises(error, match=says):
            make()


@pytest.mark.parametrize(("base", "error", "says"), [("strickt", ValueError, "did you mean 'strict'"), (3, TypeError, "a policy is")])
def test_wrong_bases(base, error, says):
    for make in (lambda: resolve_policy(base, {}), lambda: policy(base).__enter__()):
        with pytest.raises(error, match=says):
            make()


def test_policies_are_values():
    with pytest.raises(AttributeError):
        DEFAULT.grad = "detach"
    assert {DEFAULT, Policy(), STRICT} == {DEFAULT, STRICT}
    assert pickle.loads(pickle.dumps(COERCE)) == COERCE


def test_the_order_is_keyword_then_policy_then_scope():
    with policy(grad="detach", transfer="allow"):
        assert resolve_policy(None, {}).grad == "detach"
        assert resolve_policy("strict", {}).grad == "error"
        assert resolve_policy("strict", {"grad": "detach"}) == STRICT.replace(grad="detach")
        assert resolve_policy(None, {"transfer": "error", "grad": None}) == Policy(grad="detach")


def test_scopes_nest_and_end_also_on_error():
    with policy("strict"):
        with contextlib.suppress(KeyError), policy(grad="detach") as inner:
            assert inner == current_policy() == STRICT.replace(grad="detach")
            raise KeyError
        assert current_policy() == STRICT
        with policy(copy=None):
            assert current_policy().copy is None
    assert current_policy() == DEFAULT


def test_a_scope_can_decorate():
    @policy(grad="detach")
    def function():
        return current_policy().grad

    assert (function(), current_policy().grad, function()) == ("detach", "error", "detach")


def test_threads_do_not_see_each_others_scope():
    with ThreadPoolExecutor(1) as pool, policy("coerce"):
        assert pool.submit(current_policy).result() == DEFAULT
        assert pool.submit(contextvars.copy_context().run, current_policy).result() == COERCE  # the negative control


def test_spawned_processes_begin_without_the_scope():
    spawn = multiprocessing.get_context("spawn")
    with policy("coerce") as here, ProcessPoolExecutor(1, mp_context=spawn) as pool:
        assert pool.submit(current_policy).result() == DEFAULT
        assert current_policy() == here == COERCE  # the negative control
        assert pool.submit(resolve_policy, here, {}).result() == here  # what is sent along by name arrives


def test_asyncio_tasks_do_not_see_each_others_scope():
    async def task(base, ready, other):
        with policy(base) as made:
            ready.set()
            await other.wait()
            return current_policy() == made

    async def both():
        first, second = asyncio.Event(), asyncio.Event()
        return await asyncio.gather(task("strict", first, second), task("coerce", second, first))

    assert asyncio.run(both()) == [True, True]


def test_the_scope_governs_conversions():
    import torch

    parameter = torch.nn.Parameter(torch.ones(2))
    with policy(grad="detach"):
        assert interop.to_numpy(parameter).tolist() == [1, 1]
        with pytest.raises(interop.GradError):
            interop.to_numpy(parameter, policy="default")
    with pytest.raises(interop.GradError):
        interop.to_numpy(parameter)
