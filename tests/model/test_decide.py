"""The decision over the whole enumeration: descriptions (GPU ones included) x targets x permissions.

The law: passing the permissions of a refusal back gets through, or the refusal was final, and then
nothing gets through. And no plan loses anything that its policy did not permit by name.
"""

from dataclasses import replace
from itertools import combinations, product

import pytest

from interop import Description, Device, Policy
from interop._model.decide import decide
from interop._model.description import CPU, c_strides
from interop._model.plan import FRESH, Request
from interop.backends import load_backend
from tests.permissions import CORNERS, POLICIES

COERCE = POLICIES[0].replace(grad="detach", transfer="allow", casting="same_kind", mask="drop", units="drop", layout="dense", copy=True)

TARGETS = ("numpy", "torch", "cupy", "jax", "array_api_strict")
CAPABILITIES = {name: load_backend(name).capabilities for name in (*TARGETS, "dlpack")}
PLACES = [(CPU, "plain"), (CPU, "pinned"), (Device("cuda", 0), "plain"), (Device("cuda", 1), "plain"), (Device("cuda", 0), "managed")]
DTYPES = ["float32", "float64", "bfloat16", "float8_e4m3fn", "complex32", "longdouble", "object"]
# What one can be, one change each to a plain array.
TRAITS = {
    "readonly": {"readonly": True},
    "unsaid": {"readonly": None},
    "view": {"readonly": True, "writable_base": True},
    "units": {"units": "km"},
    "grad": {"requires_grad": True},
    "tangent": {"tangent": True},
    "conj": {"pending": ("conj",)},
    "neg": {"pending": ("neg",)},
    "sparse": {"layout": "sparse_coo", "densifies": True, "strides": None},
    "quantized": {"layout": "quantized", "densifies": True, "dense_dtype": "float32", "fixed": ("meta",)},
    "fixed": {"layout": "mkldnn", "densifies": True, "fixed": ("cast", "transfer")},
    "nested": {"layout": "nested", "strides": None},
    "masked": {"masked": True},
    "swapped": {"swapped": True},
    "unaligned": {"aligned": False},
    "reversed": {"strides": (-3, 1)},
    "odd": {"strides": None},
    "scalar": {"scalar": True},
    "fake": {"no_data": "fake"},
    "meta": {"no_data": "meta"},
}


# What only a library minds that takes compact and aligned memory alone.
LYING = {"off": {"pointer": 4100}, "gaps": {"strides": (6, 2)}, "transposed": {"strides": (1, 2)}}
# Every permission with every pair of traits between these; the others, which decide nothing differently, get the corners.
FIRST = {"numpy", "torch", "cupy", "dlpack"}


def describe(backend, place, dtype, *traits):
    device, memory = place
    fields = {"shape": (2, 3), "strides": c_strides((2, 3)), "nbytes": 24, "pointer": 4096, "type": f"{backend}.array"}
    for trait in traits:
        fields |= (TRAITS | LYING)[trait]
    return Description(backend=backend, dtype=dtype, device=device, memory=memory, **fields)


def request(description, target, policy, **words):
    home = CPU if target != "cupy" else Device("cuda", 0)
    return Request(CAPABILITIES[description.backend], CAPABILITIES[target], policy, home, **words)


ASKED = [
    {},
    {"device": CPU, "device_named": True},
    {"device": Device("cuda", 1), "device_named": True},
    {"device": Device("cuda", 1)},
    {"device": Device("meta"), "device_named": True},
    {"dtype": "float32"},
    {"dtype": "complex32"},
    {"unavailable": "it is not there"},
    {"streamed": True},
    {"streamed": True, "stream_problem": "it is none"},
]


def check(description, asked):
    """Check the law for one request; return the plan."""
    plan = decide(description, asked)
    if plan.ok:
        check_nothing_lost(plan, asked)
    elif plan.final:
        assert plan.permissions == {}
        assert not decide(description, asked._replace(policy=COERCE)).ok, plan
    else:
        assert plan.permissions, plan
        again = decide(description, asked._replace(policy=asked.policy.replace(**plan.permissions)))
        assert again.ok, f"{plan}\n{again}"
    return plan


def check_nothing_lost(plan, asked):
    source, policy = plan.description, asked.policy
    kinds = {step.kind for step in plan.steps}
    within = source.backend == plan.target
    assert plan.device == source.device or "transfer" in kinds
    assert plan.device == source.device or asked.device_named or policy.transfer == "allow"
    assert policy.copy is not True or not plan.shares_memory
    assert policy.copy is not False or not kinds & FRESH
    if within:
        return
    assert plan.device.type in asked.target.devices
    assert plan.dtype in asked.target.dtypes_on(plan.device)
    assert not source.tracked or policy.grad == "detach"
    assert not source.masked or policy.mask == "drop"
    assert not source.units or policy.units == "drop"
    assert source.layout == "strided" or policy.layout == "dense"
    assert source.no_data is None
    assert not source.pending or "resolve" in kinds
    check_dtype(plan, asked)
    check_reach(plan)
    if plan.shares_memory:
        check_shared(plan, asked, kinds)


def check_dtype(plan, asked):
    if asked.dtype is not None:
        return
    have, policy = plan.description.dense_dtype or plan.description.dtype, asked.policy
    if plan.dtype in asked.target.extension:
        assert policy.extension == "keep" or have not in asked.target.extension
    if policy.extension == "keep" and policy.casting == "no":
        assert plan.dtype == have


def check_reach(plan):
    """What only the host can do for a producer on a device is done there."""
    if plan.description.backend != "dlpack" or plan.description.device == CPU:
        return
    kinds = [step.kind for step in plan.steps]
    if "transfer" in kinds:
        assert not {"copy", "cast", "densify", "resolve"} & set(kinds[: kinds.index("transfer")])
    else:
        assert not [step for step in plan.steps if step.side == "source" and step.kind in FRESH]


def check_shared(plan, asked, kinds):
    """Nobody can write to what the other side holds to be constant, unless that was asked for."""
    source, target, readonly = plan.description, asked.target, asked.policy.readonly
    if target.immutable:
        assert (source.readonly is True and not source.writable_base) or readonly == "share"
    elif target.readonly_arrays:
        assert "protect" in kinds or readonly == "share" or not (source.tracked or source.readonly is None)
    else:
        assert source.readonly is not True or readonly == "share"
        assert source.readonly is not None or readonly != "error"
    assert source.pointer % target.alignment_on(source.device) == 0
    assert not target.compact or source.strides in ((3, 1), (1, 2))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("backend", CAPABILITIES)
def test_every_permission_over_every_pair_of_traits(backend, target):
    known = [*TRAITS, *(LYING if target == "jax" else ())]
    seen = set()
    for traits in [(), *((trait,) for trait in known), *combinations(known, 2)]:
        description = describe(backend, PLACES[0], "float32", *traits)
        for policy in POLICIES if len(traits) < 2 or {backend, target} <= FIRST else CORNERS:
            seen.add(check(description, request(description, target, policy)).ok)
    assert seen == {True, False}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("backend", CAPABILITIES)
@pytest.mark.parametrize("place", PLACES, ids=lambda place: f"{place[0]}-{place[1]}")
def test_every_place_dtype_and_request(backend, target, place):
    seen = set()
    dtypes = DTYPES if {backend, target} <= FIRST else ["float32", "float64", "longdouble", "object"]
    for dtype, traits, asked, policy in product(dtypes, [(), *((trait,) for trait in TRAITS)], ASKED, CORNERS):
        description = describe(backend, place, dtype, *traits)
        plan = check(description, request(description, target, policy, **asked))
        seen.add(plan.ok)
    assert seen == {True, False}  # the enumeration reaches both, so neither branch of the check is idle


@pytest.mark.parametrize("backend", ["torch", "cupy", "dlpack"])
def test_memory_on_a_device_that_is_off_or_has_gaps(backend):
    """Where it is shared it has to be aligned and compact; where it crosses, only what the consumer sees has to be."""
    seen = set()
    for place, lying, trait, asked, policy in product(PLACES[2:], LYING, [(), *((trait,) for trait in TRAITS)], ASKED, CORNERS):
        description = describe(backend, place, "float32", *trait, lying)
        plan = check(description, request(description, "jax", policy, **asked))
        seen.add((plan.ok, plan.device == plan.description.device))
    assert seen == set(product((True, False), repeat=2))


@pytest.mark.parametrize("policy", CORNERS, ids=str)
def test_all_obstacles_are_named_at_once(policy):
    description = describe("torch", PLACES[0], "float8_e4m3fn", "grad", "conj", "sparse")
    plan = decide(description, request(description, "cupy", policy.replace(grad="error", transfer="error", casting="no", layout="error")))
    codes = [refusal.code for refusal in plan.refusals]
    expected = ["layout", "grad", "dtype", "transfer"] + (["copy"] if policy.copy is False else [])
    assert codes == expected


def test_the_law_catches_a_recipe_that_does_not_work(monkeypatch):
    """The negative control: a decision that forgets what an obstacle needs is caught by `check`."""

    honest = decide

    def forgetful(description, asked):
        plan = honest(description, asked)
        refusals = tuple(refusal._replace(permissions={"mask": "drop"}) for refusal in plan.refusals)
        return replace(plan, refusals=refusals)

    description = describe("torch", PLACES[0], "float32", "grad", "sparse")
    check(description, request(description, "numpy", Policy()))
    monkeypatch.setitem(check.__globals__, "decide", forgetful)
    with pytest.raises(AssertionError):
        check(description, request(description, "numpy", Policy()))


def test_the_law_catches_a_silent_loss(monkeypatch):
    """The negative control: a plan that leaves a tracked tensor's graph unasked is caught by `check`."""
    description = describe("torch", PLACES[0], "float32", "grad")
    asked = request(description, "numpy", Policy())
    permitted = decide(description, asked._replace(policy=Policy(grad="detach")))
    monkeypatch.setitem(check.__globals__, "decide", lambda *_: permitted)
    with pytest.raises(AssertionError):
        check(description, asked)
