"""Policies, presets and scopes."""

import asyncio
import contextlib
import contextvars
import functools
import multiprocessing
import pickle
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import numpy as np
import pytest

import interop
from interop import COERCE, DEFAULT, STRICT, Policy, policy
from interop._model.policy import FIELDS, current_policy, resolve_policy
from interop._model.scope import fast_path_off
from interop._watch.ledger import forbidden, unwatched


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


def in_a_thread(function):
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function).result()


def in_a_thread_of_this_context(function):
    return in_a_thread(functools.partial(contextvars.copy_context().run, function))


@contextlib.contextmanager
def generator_in_scope():
    def held():
        with policy(grad="detach"):
            yield

    generator = held()
    next(generator)
    yield lambda: list(generator)


@contextlib.contextmanager
def scope_by_hand():
    scope = policy(grad="detach")
    scope.__enter__()
    yield lambda: scope.__exit__(None, None, None)


def in_a_task(function):
    async def task():
        function()

    asyncio.run(task())


def here(function):
    return function()


@pytest.mark.parametrize("run", [here, in_a_thread, in_a_thread_of_this_context, in_a_task])
@pytest.mark.parametrize("enter", [generator_in_scope, scope_by_hand])
def test_a_block_that_ends_in_another_context_ends(enter, run):
    import torch

    tracked = torch.ones(2, requires_grad=True)
    with policy(copy=True), enter() as leave:
        assert interop.to_numpy(tracked).tolist() == [1, 1]  # the negative control
        run(leave)
        with pytest.raises(interop.GradError):
            interop.to_numpy(tracked)
        assert current_policy() == Policy(copy=True)  # and what is around it is in force
    with enter() as leave:
        run(leave)
        interop.to_numpy(torch.ones(2), copy=None)  # whatever looks finds that it has ended, and fast paths are open again
        assert current_policy() == DEFAULT
        assert fast_path_off.get() is None


def test_a_guard_and_a_record_end_in_another_context_too():
    def held():
        with interop.record() as log, interop.guard(copies="error"):
            yield log

    generator = held()
    log = next(generator)
    assert fast_path_off.get() is not None
    with pytest.raises(interop.CopyError):
        interop.to_torch(np.ones(2), copy=True)
    in_a_thread(lambda: list(generator))
    assert interop.to_torch(np.ones(2), copy=True).tolist() == [1, 1]
    assert (log.crossings, fast_path_off.get()) == ([], None)


def test_a_task_keeps_the_blocks_that_it_was_started_in():
    with policy(grad="detach"):
        started = contextvars.copy_context()
    assert current_policy() == DEFAULT
    assert started.run(current_policy).grad == "detach"


def test_what_is_unwatched_hides_the_blocks_around_it_until_it_ends_elsewhere():
    def held():
        with unwatched():
            yield

    with interop.guard():
        generator = held()
        next(generator)
        assert forbidden() == frozenset()
        in_a_thread(lambda: list(generator))
        assert forbidden() == {"copies", "transfers", "grads"}
        assert fast_path_off.get() is not None
