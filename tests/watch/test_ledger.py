"""Records and guards: what counts as a crossing, in which context, and that nothing lifts a guard."""

import asyncio
import contextlib
import contextvars
import re
import subprocess
import sys
import textwrap
import threading
import traceback
from itertools import combinations, product
from pathlib import Path

import numpy as np
import pytest
import torch

import interop
from interop import guard, record
from interop._model.decide import GUARDS, decide
from interop._model.plan import FRESH
from interop._model.policy import current_policy
from interop._model.scope import fast_path_off
from interop._watch.ledger import forbidden, unwatched
from interop.errors import CopyError, GradError, TransferError
from tests.corpus import SOURCES
from tests.model.test_decide import DTYPES, PLACES, TARGETS, TRAITS, describe, request
from tests.permissions import CORNERS

HERE = Path(__file__).name


def line():
    return sys._getframe(1).f_lineno


# What is written down.


def test_a_crossing_says_what_went_where_and_from_which_line():
    a = np.ones((2, 3), "float32")
    with record() as log:
        interop.to_torch(a[:, ::-1])
        at = line() - 1
    (one,) = log.crossings
    assert (one.source.backend, one.target, str(one.device), one.bytes, one.shared) == ("numpy", "torch", "cpu", 24, False)
    assert one.why == "torch has no negative strides"
    assert one.site == f"{__file__}:{at}"
    assert one.path == ""
    assert (log.bytes_copied, log.copies, log.transfers) == (24, [one], [])


def test_sharing_is_a_crossing_but_neither_copy_nor_transfer():
    with record() as log:
        interop.to_numpy(interop.to_torch(np.ones(3)))
    assert [one.shared for one in log.crossings] == [True, True]
    assert (log.bytes_copied, log.copies, log.transfers) == (0, [], [])


def test_what_changes_nothing_and_what_is_refused_are_none():
    with record() as log:
        interop.to_numpy(np.ones(3))
        interop.to_torch(torch.ones(3))
        interop.explain(np.ones(3), "torch")
        interop.describe(np.ones(3))
        with pytest.raises(GradError):
            interop.to_numpy(torch.ones(3, requires_grad=True))
    assert log.crossings == []
    assert str(log) == "no crossings"


def test_what_a_call_asks_for_by_name_counts():
    with record() as log:
        interop.to_torch(torch.ones(3), device="meta")
        interop.to_torch(torch.ones(3), copy=True)
        interop.to_numpy(np.ones(3), dtype="float32")
    assert [one.crossed_device for one in log.crossings] == [True, False, False]
    assert (len(log.transfers), len(log.copies)) == (1, 2)


def test_crossings_within_a_tree_and_a_function_are_told_where_they_are():
    @interop.neutral(runs_on="numpy")
    def double(x):
        return {"twice": x * 2}

    with record() as log:
        interop.tree.convert({"a": [np.ones(1)]}, "torch")
        double(torch.ones(2))
        at = line() - 1
    assert [one.path for one in log.crossings] == ["tree['a'][0]", "x", "result['twice']"]
    assert {one.site for one in log.crossings[1:]} == {f"{__file__}:{at}"}


def test_the_table_reads_well():
    with record() as log:
        interop.to_torch(np.ones(3)[::-1])
        interop.to_numpy(torch.ones(2))
    head, first, second, last = str(log).splitlines()
    assert head.split() == ["from", "to", "copied", "at", "why"]
    assert re.split(r"\s{2,}", first)[:3] == ["numpy float64[3] on cpu", "torch on cpu", "24 bytes"]
    assert HERE in first
    assert first.endswith("torch has no negative strides")
    assert re.split(r"\s{2,}", second)[2] == "shared"
    assert last == "2 crossings: 1 copies, 0 transfers, 24 bytes copied"


def test_a_record_keeps_nothing_alive():
    import gc
    import weakref

    t = torch.ones(3)
    with record() as log:
        interop.to_numpy(t)
    gone = weakref.ref(t)
    del t
    gc.collect(0)
    assert gone() is None
    assert len(log.crossings) == 1


# How much of it is kept.


def crossed(log_or_keep):
    """Make three copies, of 8, 16 and 24 bytes, a transfer and a handoff that shares."""
    with record(**log_or_keep) as log:
        for n in (1, 2, 3):
            interop.to_torch(np.ones(n)[::-1] if n > 1 else np.ones(n), copy=True)
        interop.to_torch(torch.ones(3), device="meta")
        interop.to_torch(np.ones(9))
    return log


@pytest.mark.parametrize(("keep", "kept"), [(0, 0), (1, 1), (4, 4), (5, 5), (6, 5), (None, 5)])
def test_the_newest_crossings_are_kept_and_the_sums_are_exact(keep, kept):
    everything = crossed({"keep": None}).crossings
    log = crossed({"keep": keep})
    assert [(one.target, one.bytes) for one in log.crossings] == [(one.target, one.bytes) for one in everything[5 - kept :]]
    assert (log.crossing_count, log.copy_count, log.transfer_count) == (5, 3, 1)
    assert log.bytes_copied == sum(one.bytes for one in everything) > 48
    assert (log.dropped, len(str(log).splitlines())) == (5 - kept, kept + 2)
    said = f" ({5 - kept} older ones dropped)" if kept < 5 else ""
    sums = f"5 crossings{said}: 3 copies, 1 transfers, {log.bytes_copied:,} bytes copied"
    assert str(log).splitlines()[-1] == sums
    assert repr(log) == f"<Log of {sums}>"


def test_ten_thousand_are_kept_unless_more_are_asked_for():
    a = np.ones(1)
    with record() as usual, record(keep=None) as all_of_them, record(keep=3) as few:
        for _ in range(10_003):
            interop.to_torch(a)
    assert [len(log.crossings) for log in (usual, all_of_them, few)] == [10_000, 10_003, 3]
    assert [(log.crossing_count, log.dropped) for log in (usual, all_of_them, few)] == [(10_003, 3), (10_003, 0), (10_003, 10_000)]


@pytest.mark.parametrize("keep", [-1, 1.0, "10", True])
def test_keep_is_a_number_of_crossings(keep):
    with pytest.raises(ValueError, match=f"keep={keep!r} is not a number of crossings"), record(keep=keep):
        pass


def test_threads_of_one_context_are_summed_exactly():
    a, interval = np.ones(2), sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with record(keep=10) as log:

            def work():
                for _ in range(200):
                    interop.to_torch(a, copy=True)

            threads = [threading.Thread(target=contextvars.copy_context().run, args=(work,)) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert (log.crossing_count, log.copy_count, log.bytes_copied, len(log.crossings)) == (800, 800, 800 * 16, 10)


# In which context.


def test_records_nest_and_end():
    with record() as outer:
        interop.to_torch(np.ones(1))
        with record() as inner:
            interop.to_torch(np.ones(1))
        interop.to_torch(np.ones(1))
    interop.to_torch(np.ones(1))
    assert (len(outer.crossings), len(inner.crossings)) == (3, 1)


def test_a_record_ends_with_an_exception_and_gives_the_fast_path_back():
    before = fast_path_off.get()
    logs = []

    def fail():
        with record() as log:
            logs.append(log)
            assert fast_path_off.get() is not before
            interop.to_torch(np.ones(1))
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert fast_path_off.get() is before
    interop.to_torch(np.ones(1))
    assert len(logs[0].crossings) == 1


def test_another_thread_is_another_context():
    def work():
        interop.to_torch(np.ones(1))

    with record() as log:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        assert log.crossings == []
        inherited = threading.Thread(target=contextvars.copy_context().run, args=(work,))
        inherited.start()
        inherited.join()
    assert len(log.crossings) == 1


def test_tasks_have_their_own_records_and_belong_to_those_around():
    async def work(count):
        with record() as log:
            for _ in range(count):
                interop.to_torch(np.ones(1))
                await asyncio.sleep(0)
        return len(log.crossings)

    async def main():
        with record() as log:
            counts = await asyncio.gather(work(2), work(3), asyncio.to_thread(lambda: interop.to_torch(np.ones(1))))
        return counts[:2], len(log.crossings)

    assert asyncio.run(main()) == ([2, 3], 6)


def test_a_task_that_outlives_the_block_is_not_written_down():
    async def late(started):
        started.set()
        await asyncio.sleep(0.01)
        interop.to_torch(np.ones(1))

    async def main():
        started = asyncio.Event()
        with record() as log:
            task = asyncio.create_task(late(started))
            await started.wait()
        await task
        return log

    assert asyncio.run(main()).crossings == []


@pytest.mark.parametrize("order", [(0, 1), (1, 0)], ids=["first in, first out", "last in, first out"])
def test_blocks_that_end_in_any_order_take_only_their_own_away(order):
    def held(**words):
        with guard(**words):
            yield

    before = fast_path_off.get()
    held_ones = [held(copies="error"), held(transfers="error")]
    for one in held_ones:
        next(one)
    assert forbidden() == {"copies", "transfers"}
    held_ones[order[0]].close()
    assert forbidden() == {("copies", "transfers")[order[1]]}
    held_ones[order[1]].close()
    assert forbidden() == frozenset()
    assert fast_path_off.get() is before


def test_policies_too():
    def held(**words):
        with interop.policy(**words):
            yield

    first, second = held(grad="detach"), held(copy=True)
    next(first)
    next(second)
    first.close()
    assert current_policy().copy is True
    second.close()
    assert current_policy() == interop.DEFAULT
    assert fast_path_off.get() is None


def test_an_asynchronous_generator_may_be_closed_from_another_task():
    async def held():
        with record() as log, guard():
            yield log

    async def main():
        generator = held()
        await asyncio.create_task(anext(generator))
        await asyncio.create_task(generator.aclose())
        return forbidden()

    assert asyncio.run(main()) == frozenset()


def test_a_block_decorates_a_function_and_refuses_what_would_outlive_it():
    @guard(copies="error")
    def work():
        interop.to_torch(np.ones(2), copy=True)

    for _ in range(2):
        with pytest.raises(CopyError):
            work()
    interop.to_torch(np.ones(2), copy=True)

    async def later():
        pass

    def generator():
        yield

    for wrong in (later, generator):
        for made in (guard(), record(), interop.policy(copy=True)):
            with pytest.raises(TypeError, match=rf"around .*{wrong.__name__} would end before its body begins"):
                made(wrong)


def test_a_block_may_be_entered_again_and_within_itself():
    made = guard(copies="error")
    with made, made:
        assert forbidden() == {"copies"}
    with made:
        assert forbidden() == {"copies"}
    assert forbidden() == frozenset()


# One block, several users.


def test_a_block_that_threads_share_keeps_to_each():
    made, entered, left, logs = record(), threading.Event(), threading.Event(), {}

    def first():
        with made as logs["first"]:
            interop.to_torch(np.ones(1))
            entered.set()
            left.wait(10)
        interop.to_torch(np.ones(1))

    def second():
        entered.wait(10)
        with made as logs["second"]:
            left.set()
            one.join(10)
            for _ in range(3):
                interop.to_torch(np.ones(1))

    one, two = threading.Thread(target=first), threading.Thread(target=second)
    for thread in (one, two):
        thread.start()
    for thread in (one, two):
        thread.join(20)
    assert [len(logs[name].crossings) for name in ("first", "second")] == [1, 3]


def test_a_block_that_tasks_share_keeps_to_each():
    allow, inside = interop.policy(grad="detach"), []

    async def task(number, before, within):
        await asyncio.sleep(before)
        with allow, allow:
            with allow:
                await asyncio.sleep(within)
            inside.append((number, current_policy().grad))
        inside.append((number, current_policy().grad))

    async def main():
        with allow:  # which they inherit
            await asyncio.gather(task(1, 0, 0.02), task(2, 0.01, 0.03))
        return current_policy().grad

    assert asyncio.run(main()) == "error"
    assert sorted(inside) == [(1, "detach")] * 2 + [(2, "detach")] * 2


@pytest.mark.parametrize("order", [(0, 1), (1, 0)], ids=["first in, first out", "last in, first out"])
def test_a_block_that_generators_share_keeps_to_each(order):
    made = record()

    def held():
        with made as log:
            yield log

    generators = [held(), held()]
    logs = [next(one) for one in generators]
    generators[order[0]].close()
    interop.to_torch(np.ones(1))
    generators[order[1]].close()
    interop.to_torch(np.ones(1))
    assert [len(logs[one].crossings) for one in order] == [0, 1]


def test_a_block_that_is_entered_by_hand_is_left_by_hand():
    made, before = guard(copies="error"), fast_path_off.get()
    with contextlib.ExitStack() as stack:
        stack.enter_context(made)
        stack.enter_context(interop.policy(grad="detach"))
        with made:
            assert forbidden() == {"copies"}
        assert forbidden() == {"copies"}
        assert current_policy().grad == "detach"
    assert (forbidden(), current_policy(), fast_path_off.get()) == (frozenset(), interop.DEFAULT, before)
    made.__enter__()
    assert forbidden() == {"copies"}
    made.__exit__(None, None, None)
    assert forbidden() == frozenset()
    with pytest.raises(RuntimeError, match="left that was not entered"):
        made.__exit__(None, None, None)


@pytest.mark.parametrize(
    "error", [KeyError("x"), StopIteration("x"), GeneratorExit(), KeyboardInterrupt()], ids=lambda error: type(error).__name__
)
def test_a_block_lets_every_error_through(error):
    def body():
        with record(), guard(native=True), interop.policy(copy=True):
            raise error

    with pytest.raises(type(error)) as caught:
        body()
    assert caught.value is error
    assert "scope.py" not in "".join(traceback.format_tb(error.__traceback__))
    assert fast_path_off.get() is None


def test_unwatched_is_not_seen_and_not_guarded():
    with record() as log, guard(), unwatched():
        interop.to_torch(np.ones(1), copy=True)
    assert log.crossings == []


# Guards.

BREAKS = {
    "copies": (CopyError, lambda **words: interop.to_torch(np.ones(2)[::-1], **words)),
    "transfers": (TransferError, lambda **words: interop.to_torch(torch.ones(2), device="meta", **words)),
    "grads": (GradError, lambda **words: interop.to_numpy(torch.ones(2, requires_grad=True), **words)),
}


def test_every_guard_is_tested():
    assert set(BREAKS) == set(GUARDS)


@pytest.mark.parametrize("what", GUARDS)
def test_no_permission_lifts_a_guard(what):
    error, breaks = BREAKS[what]
    everything = {"policy": "coerce"}
    breaks(**everything)  # the negative control
    with guard(**{what: "error"}), interop.policy("coerce"):
        for words in ({}, everything, {"policy": interop.COERCE.replace(copy=True)}):
            with pytest.raises(error, match=f"a guard forbids {what} here, and no permission lifts it") as caught:
                breaks(**words)
            assert caught.value.permissions == {}
            assert caught.value.hint == f"Do it outside of the guard that forbids {what}."
        with guard(**{what: "allow"}), pytest.raises(error):  # nor does an inner guard
            breaks(**everything)
    breaks(**everything)


@pytest.mark.parametrize("what", GUARDS)
def test_a_guard_forbids_what_it_names_and_nothing_else(what):
    with guard(**{what: "error"}):
        for other, (_, breaks) in BREAKS.items():
            if other != what:
                breaks(policy="coerce")
        interop.to_numpy(torch.ones(2))
        interop.to_torch(np.ones(2))


def test_a_guard_without_names_forbids_everything_and_with_an_allowance_the_rest():
    with guard():
        for error, breaks in BREAKS.values():
            with pytest.raises(error):
                breaks(policy="coerce")
        interop.to_numpy(torch.ones(2))
    with guard(copies="allow"):
        BREAKS["copies"][1]()
        with pytest.raises(TransferError):
            BREAKS["transfers"][1]()


def test_a_wrong_rule_is_told():
    with pytest.raises(ValueError, match="copies='eror' is not a rule of a guard; did you mean 'error'"), guard(copies="eror"):
        pass


def test_explain_knows_the_guard():
    with guard(copies="error"):
        plan = interop.explain(np.ones(2)[::-1], "torch")
        assert not plan.ok
        assert plan.final
        assert interop.tree.explain([np.ones(2)[::-1]], "torch").final
    assert interop.explain(np.ones(2)[::-1], "torch").ok


def test_the_fast_path_is_guarded():
    tracked = torch.ones(2, requires_grad=True)
    interop.to_numpy(tracked, grad="detach")
    with guard(grads="error"), pytest.raises(GradError):
        interop.to_numpy(tracked, grad="detach")


def test_a_guard_is_of_this_context_only():
    caught = []

    def work():
        caught.append(interop.to_torch(np.ones(2), copy=True))

    with guard():
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert len(caught) == 1


def kinds(plan):
    return {step.kind for step in plan.steps}


FORBIDDEN = [frozenset(some) for n in (1, 2, 3) for some in combinations(GUARDS, n)]
ABOUT = {some: frozenset().union(*(GUARDS[what][1] for what in some)) for some in FORBIDDEN}


@pytest.mark.parametrize("backend", ["numpy", "torch", "cupy"])
def test_the_law_of_guards_over_described_arrays(backend):
    """A plan is as it was, or refused, and it is refused just where a forbidden step would have been taken.

    Refused for good, but for a copy that only keeps one side from writing to what the other holds to be constant: that can be shared.
    """
    allowed, shared = dict.fromkeys(FORBIDDEN, 0), 0
    for place, dtype, trait, target, policy in product(PLACES, DTYPES, TRAITS, TARGETS, CORNERS):
        description = describe(backend, place, dtype, trait)
        free = decide(description, request(description, target, policy))
        for some in FORBIDDEN:
            guarded = decide(description, request(description, target, policy, forbidden=some))
            if not free.ok:
                assert not guarded.ok
            elif kinds(free) & ABOUT[some]:
                assert guarded.final or guarded.permissions == {"readonly": "share"}
                if not guarded.final:
                    again = decide(description, request(description, target, policy.replace(readonly="share"), forbidden=some))
                    assert again.shares_memory
                    shared += 1
            else:
                assert guarded == free
                allowed[some] += 1
    assert min(allowed.values()) > 100
    assert shared > 100


# torch's own, on making some of the sources: masked tensors, half complex numbers.
@pytest.mark.filterwarnings("ignore:The PyTorch API of MaskedTensors", "ignore:ComplexHalf support")
@pytest.mark.parametrize("what", ["copies", "grads"])
def test_under_a_guard_nothing_forbidden_is_done_to_real_arrays(what):
    done = 0
    for source in SOURCES:
        with source.inside():
            x = source.make()
            for target in ("numpy", "torch"):
                with guard(**{what: "error"}), record() as log:
                    try:
                        interop.convert(x, target, policy="coerce")
                    except interop.InteropError:
                        continue
                done += len(log.crossings)
                if what == "copies":
                    assert log.copies == [], source
                else:
                    assert not any(one.source.tracked for one in log.crossings if one.target != "torch"), source
    assert done > 20


def test_guards_and_what_the_plan_calls_new_memory_agree():
    assert GUARDS["copies"][1] | GUARDS["transfers"][1] == FRESH


# Past interop.


def test_a_native_guard_sees_torch_and_a_plain_one_does_not():
    t, p = torch.ones(2), torch.ones(2, requires_grad=True)
    with guard():
        t.to("meta")
        p.detach().numpy()
    with guard(native=True):
        with pytest.raises(TransferError):
            t.to("meta")
        with pytest.raises(GradError):
            p.detach().numpy()
        interop.to_numpy(t)
    t.to("meta")


def test_a_native_guard_leaves_allowed_crossings_alone():
    p = torch.ones(2, requires_grad=True)
    with guard(transfers="error", native=True):
        p.detach().numpy()
        interop.to_numpy(p, grad="detach")
        with pytest.raises(TransferError):
            p.to("meta")


def test_a_native_guard_sees_what_jax_shows():
    code = """
        import os
        os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"
        import jax, jax.numpy as jnp, numpy as np, interop
        x = jnp.ones(3)
        jax.device_put(x, jax.devices()[1])
        with interop.guard():
            jax.device_put(x, jax.devices()[1])
        with interop.guard(native=True, copies="allow"):
            y = x + 1
            interop.to_numpy(x)
            interop.convert(np.ones(3, "float32"), "jax", copy=None)
        try:
            with interop.guard(native=True, transfers="error"):
                jax.device_put(x, jax.devices()[1])
        except interop.TransferError as error:
            print(error)
    """
    ran = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False)
    assert "JAX moves data past interop: Disallowed device-to-device transfer" in ran.stdout, ran.stderr
    assert "Hint: Do it through interop" in ran.stdout


def test_no_library_is_loaded_for_a_guard():
    code = "import sys, interop\nwith interop.guard(native=True), interop.record(): pass\nprint([n for n in ('torch', 'jax', 'cupy') if n in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
