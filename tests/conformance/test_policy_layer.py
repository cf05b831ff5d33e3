"""The policy layer: it covers the whole table, loads no library, and sees a planner that forgets a permission."""

import subprocess
import sys
from dataclasses import replace

import array_api_strict
import numpy as np
import pytest
from interop_conformance.matrix.dtypes import DTYPES
from interop_conformance.matrix.layouts import LAYOUTS
from interop_conformance.matrix.states import STATES
from interop_conformance.policy import layer as policy
from interop_conformance.policy.facts import HOLDS, SOURCES, TARGETS
from interop_conformance.policy.law import TABLE, matters, policies
from interop_conformance.policy.situation import situation
from interop_conformance.results.outcomes import GOOD
from interop_conformance.results.records import Case
from interop_conformance.running.observe import observe as observe_in_run

import interop
from interop import COERCE, DEFAULT, STRICT, Device, Policy
from interop._model.policy import FIELDS
from interop.backends import load_backend

CASES = list(policy.cases())
FEW = [case for case in CASES if case.consumer in ("numpy", "torch", "cupy", "jax", "array-api-strict")]
HONEST = policy.decide
DEVICE1 = array_api_strict.Device("device1")


def case_of(producer, consumer, **permissions):
    words = ",".join(f"{name}={value}" for name, value in permissions.items()) or "default"
    return next(case for case in CASES if case[2:5] == (producer, consumer, words))


def first_wrong(cases=FEW):
    """Return the first case that the law does not let through; None if it lets all of them."""
    return next((case for case in cases if policy.observe(case).outcome == "wrong"), None)


def with_policy(**forced):
    """A planner that takes these permissions as given, whatever the policy says."""
    return lambda x, request: HONEST(x, request._replace(policy=request.policy.replace(**forced)))


def with_description(**blind):
    """A planner that does not see these properties of an array."""
    return lambda x, request: HONEST(x.replace(**blind), request)


# What it covers.


def test_the_table_is_the_designs():
    assert {name: field.values for name, field in FIELDS.items()} == TABLE
    assert len(policies()) == 1728


def test_every_cell_of_the_table_is_planned_once_for_each_source_and_target():
    pairs = {}
    for case in CASES:
        pairs.setdefault((case.producer, case.consumer), []).extend(policy.policies_of(case.case))
    assert set(pairs) == {(source, target) for source in SOURCES for target in TARGETS}
    for planned in pairs.values():
        assert len(planned) == 1728
        assert set(planned) == set(policies().values())


def test_ids_are_unique_and_their_words_known():
    assert len({case.id for case in CASES}) == len(CASES)
    for case in CASES:
        assert (case.layer, case.route) == ("policy", "interop")
        assert case.dtype in DTYPES
        assert case.layout in LAYOUTS
        assert set(case.state.split("+")) <= STATES.keys()
        assert not any("/" in part for part in case)


@pytest.mark.parametrize(
    ("producer", "consumer", "names"),
    [
        ("numpy", "torch", ("copy",)),
        ("numpy", "numpy", ("copy",)),
        ("numpy-read-only", "torch", ("copy", "readonly")),
        ("numpy-read-only", "numpy", ("copy",)),
        ("numpy-read-only-big-endian", "torch", ("copy",)),
        ("numpy-masked", "torch", ("copy", "mask")),
        ("numpy-longdouble", "torch", ("copy", "casting")),
        ("numpy-datetime64", "torch", ()),
        ("torch-grad", "numpy", ("copy", "grad", "readonly")),
        ("torch-grad", "torch-cuda:0", ("copy",)),
        ("torch-grad", "torch-like-cuda:1", ("copy", "transfer")),
        ("torch-cuda-grad", "numpy", ("copy", "grad", "transfer")),
        ("torch-cuda-grad", "numpy-cpu", ("copy", "grad")),
        ("torch-cuda-grad", "cupy", ("copy", "grad")),
        ("torch-fake", "numpy", ()),
        ("torch-cuda-all", "cupy-cuda:1", ("copy", "grad", "casting", "layout")),
        ("torch-cuda-all", "numpy", ("copy", "grad", "transfer", "extension", "layout")),
        ("dlpack-cuda-read-only", "cupy", ("copy", "readonly")),
        ("numpy-read-only", "jax", ("copy",)),
        ("numpy-float64", "jax", ("copy", "casting")),
        ("numpy-off-64", "jax", ("copy", "readonly")),
        ("numpy-off-64", "jax-cuda:0", ("copy",)),
        ("torch-grad", "jax", ("copy", "grad", "readonly")),
        ("jax", "torch", ("copy", "readonly")),
        ("jax", "numpy", ("copy",)),
        ("jax-cuda", "cupy", ("copy", "readonly")),
        ("jax-deleted", "numpy", ()),
        ("jax-deleted", "jax", ("copy",)),
        ("array-api-strict-ext:1", "numpy", ("copy", "transfer")),
        ("numpy", "array-api-strict-ext:1", ("copy",)),
        ("numpy", "array-api-strict-like-ext:1", ("copy", "transfer")),
        ("numpy", "jax", ("copy", "readonly")),
        ("numpy-view", "jax", ("copy", "readonly")),
        ("numpy-view", "torch", ("copy", "readonly")),
        ("numpy-units", "torch", ("copy", "units")),
        ("numpy-units", "numpy", ("copy",)),
        ("numpy-bfloat16", "numpy", ("copy",)),
        ("torch-bfloat16", "numpy", ("copy", "extension")),
        ("torch-bfloat16", "jax", ("copy", "readonly")),
        ("dlpack-legacy", "numpy", ("copy", "readonly")),
        ("dlpack-legacy", "torch", ("copy", "readonly")),
        ("dlpack-legacy", "jax", ("copy", "readonly")),
        ("dlpack-cuda-reversed", "torch", ("copy",)),
        ("dlpack-cuda-reversed", "torch-cpu", ("copy",)),
    ],
)
def test_what_matters(producer, consumer, names):
    assert matters(situation(SOURCES[producer].description, TARGETS[consumer])) == names


@pytest.mark.parametrize(
    ("case", "outcome", "reason"),
    [
        # The promises in the design's own words, as literals: the law is held to the text here, not to the planner.
        (("torch-bfloat16", "numpy", {"copy": False, "extension": "keep"}), "shared", ""),
        (("torch-bfloat16", "numpy", {"copy": None, "extension": "widen"}), "copied", "24 bytes"),
        (("torch-bfloat16", "numpy", {"copy": False, "extension": "widen"}), "refused", "copy"),
        (("torch-float8", "numpy", {"copy": None, "extension": "keep"}), "shared", ""),
        (("torch-grad", "numpy", {"copy": None, "grad": "detach", "readonly": "copy"}), "shared", "read-only"),
        (("torch-grad", "numpy", {"copy": None, "grad": "detach", "readonly": "share"}), "shared", ""),
        (("torch-grad", "torch", {"copy": None}), "shared", ""),
        (("torch-grad", "torch-cuda:0", {"copy": None}), "copied", "24 bytes"),
        (("torch-grad", "torch-cuda:0", {"copy": False}), "refused", "copy"),
        (("torch-cuda", "cupy", {"copy": False}), "shared", ""),
        (("torch-cuda-bfloat16", "numpy", {"copy": None, "transfer": "allow", "extension": "keep"}), "copied", "12 bytes"),
        (("torch-cuda", "numpy-cpu", {"copy": None}), "copied", "24 bytes"),
        (("torch-cuda", "numpy-cpu", {"copy": False}), "refused", "copy"),
        (("torch-cuda", "numpy", {"copy": None, "transfer": "error"}), "refused", "transfer"),
        (("torch-cuda", "numpy", {"copy": False, "transfer": "error"}), "refused", "copy, transfer"),
        (("torch-conj", "numpy", {"copy": False}), "refused", "copy"),
        (("numpy-reversed", "torch", {"copy": None}), "copied", "24 bytes"),
        (("numpy-read-only", "torch", {"copy": False, "readonly": "copy"}), "refused", "readonly"),
        (("numpy-read-only", "torch", {"copy": False, "readonly": "share"}), "shared", ""),
        (("numpy-longdouble", "torch", {"copy": None, "casting": "safe"}), "refused", "dtype"),
        (("numpy-longdouble", "torch", {"copy": None, "casting": "same_kind"}), "copied", "48 bytes"),
        (("torch-fake", "numpy", {}), "refused", "no-data, final"),
        (("numpy", "jax", {"copy": None, "readonly": "copy"}), "copied", "24 bytes"),
        (("numpy", "jax", {"copy": None, "readonly": "share"}), "shared", ""),
        (("numpy", "jax", {"copy": None, "readonly": "error"}), "refused", "readonly"),
        (("numpy", "jax", {"copy": False, "readonly": "copy"}), "refused", "readonly"),
        (("numpy-view", "jax", {"copy": None, "readonly": "copy"}), "copied", "24 bytes"),
        (("dlpack-legacy", "torch", {"copy": None, "readonly": "copy"}), "shared", ""),
        (("dlpack-legacy", "torch", {"copy": False, "readonly": "error"}), "refused", "readonly"),
        (("dlpack-legacy", "numpy", {"copy": False, "readonly": "error"}), "shared", "read-only"),
        (("dlpack-legacy", "numpy", {"copy": None, "readonly": "share"}), "shared", ""),
        (("dlpack-legacy", "jax", {"copy": None, "readonly": "copy"}), "copied", "24 bytes"),
        (("numpy-units", "torch", {"copy": None, "units": "error"}), "refused", "units"),
        (("numpy-units", "torch", {"copy": None, "units": "drop"}), "shared", ""),
        (("numpy-read-only", "jax", {"copy": False}), "shared", ""),
        (("numpy-transposed", "jax", {"copy": False, "readonly": "share"}), "shared", ""),
        (("numpy-off-64", "jax", {"copy": None, "readonly": "copy"}), "copied", "24 bytes"),
        (("numpy-off-64", "jax", {"copy": None, "readonly": "share"}), "copied", "24 bytes"),
        (("numpy-off-64", "jax", {"copy": None, "readonly": "error"}), "refused", "readonly"),
        (("numpy-off-64", "jax", {"copy": False, "readonly": "copy"}), "refused", "readonly"),
        (("numpy-off-64", "jax", {"copy": False, "readonly": "share"}), "refused", "copy"),
        (("numpy-stepped", "jax", {"copy": None}), "copied", "24 bytes"),
        (("numpy-float64", "jax", {"copy": None, "casting": "safe"}), "refused", "dtype"),
        (("jax", "numpy", {"copy": False}), "shared", ""),
        (("jax", "torch", {"copy": None, "readonly": "copy"}), "copied", "24 bytes"),
        (("jax", "torch", {"copy": None, "readonly": "share"}), "shared", ""),
        (("jax-bfloat16", "numpy", {"copy": False, "extension": "keep"}), "shared", ""),
        (("jax-traced", "numpy", {}), "refused", "no-data, final"),
        (("jax-cuda", "torch", {"copy": None, "readonly": "share"}), "shared", ""),
        (("array-api-strict-ext:1", "numpy", {"copy": None, "transfer": "error"}), "refused", "transfer"),
        (("numpy", "array-api-strict", {"copy": False}), "shared", ""),
        (
            ("torch-cuda-all", "numpy", {"copy": False, "grad": "error", "transfer": "error", "extension": "keep", "layout": "error"}),
            "refused",
            "copy, grad, layout, transfer",
        ),
    ],
    ids=str,
)
def test_the_promises_as_literals(case, outcome, reason):
    producer, consumer, permissions = case
    assert policy.observe(case_of(producer, consumer, **permissions)) == (outcome, reason)


@pytest.mark.matrix
def test_interop_keeps_the_law_everywhere():
    found = {case.id: policy.observe(case) for case in CASES}
    assert {name: answer for name, answer in found.items() if answer.outcome not in GOOD} == {}
    assert {answer.outcome for answer in found.values()} == {"shared", "copied", "refused"}


def test_no_library_but_numpy_is_loaded():
    code = (
        "import sys; from interop_conformance.policy import layer as policy; cases = list(policy.cases()); [policy.observe(case) for case in cases[::40]];"
        "print(sorted({'torch', 'cupy', 'jax', 'array_api_strict', 'pyarrow', 'numpy'} & sys.modules.keys()))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "['numpy']"


# What it says of the libraries is what the backends say, and what it plans is what `explain` plans.


@pytest.mark.parametrize("name", HOLDS)
def test_the_facts_are_those_of_the_backends(name):
    listed, backend = HOLDS[name], load_backend(name).capabilities
    assert listed.dtypes == backend.dtypes & set(DTYPES)
    assert listed.extension == backend.extension & set(DTYPES)
    assert listed.devices == backend.devices & {"cpu", "cuda", "meta", *(["ext"] if name == "array_api_strict" else [])}
    for device in listed.devices:
        assert listed.alignment_on(Device(device)) == backend.alignment_on(Device(device))
        assert listed.dtypes_on(Device(device)) == backend.dtypes_on(Device(device)) & set(DTYPES)
    for trait in (
        "name",
        "title",
        "default_device",
        "readonly_arrays",
        "negative_strides",
        "foreign_byte_order",
        "unaligned",
        "odd_strides",
        "immutable",
        "only_to_host",
    ):
        assert getattr(listed, trait) == getattr(backend, trait)
    for trait in ("compact", "shares", "why_lacking"):
        assert getattr(listed, trait) == getattr(backend, trait)


@pytest.mark.parametrize("label", [label for label, target in TARGETS.items() if not target.like])
def test_explain_says_the_same(label):
    target = TARGETS[label]
    words = {"device": target.device, "dtype": target.dtype}
    for source in SOURCES.values():
        for chosen in (DEFAULT, STRICT, COERCE, Policy(copy=True, readonly="share")):
            assert interop.explain(source.description, target.library, **words, policy=chosen) == policy.planned(
                source.description, target, chosen
            )


@pytest.mark.parametrize(
    ("label", "make"),
    [
        ("numpy-datetime64", lambda: np.zeros((2, 3), "datetime64[D]")),
        ("numpy-read-only-big-endian", lambda: np.frombuffer(bytes(24), ">f4").reshape(2, 3)),
        ("numpy-reversed-length-1", lambda: np.zeros((1, 3), "float32")[::-1]),
        ("numpy-stepped", lambda: np.zeros((2, 6), "float32")[:, ::2]),
        ("array-api-strict", lambda: array_api_strict.zeros((2, 3), dtype=array_api_strict.float32)),
        ("array-api-strict-ext:1", lambda: array_api_strict.zeros((2, 3), dtype=array_api_strict.float32, device=DEVICE1)),
    ],
)
def test_the_described_arrays_are_like_real_ones(label, make):
    # Those of JAX are compared in tests/test_notation.py: once JAX has made an array, it warns about every fork, and there are some here.
    assert interop.describe(make()).replace(pointer=None, advice="") == SOURCES[label].description


# Negative controls: each way to get it wrong is seen as `wrong`.


def test_an_honest_planner_passes():
    """The control of the controls: those that follow look at these cases."""
    assert first_wrong(FEW) is None


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in TABLE.items() for value in values])
def test_a_planner_that_does_not_read_a_permission(monkeypatch, name, value):
    monkeypatch.setattr(policy, "decide", with_policy(**{name: value}))
    wrong = first_wrong()
    assert wrong is not None
    assert f"{name}=" in wrong.case


@pytest.mark.parametrize(
    ("producer", "blind"),
    [
        ("torch-grad", {"requires_grad": False}),
        ("torch-dual", {"tangent": False}),
        ("numpy-masked", {"masked": False}),
        ("numpy-units", {"units": ""}),
        ("numpy-view", {"writable_base": False}),
        ("dlpack-legacy", {"readonly": False}),
        ("dlpack-legacy", {"readonly": True}),
        ("dlpack-grad", {"requires_grad": False}),
        ("numpy-read-only", {"readonly": False}),
        ("numpy-big-endian", {"swapped": False}),
        ("numpy-unaligned", {"aligned": True}),
        ("torch-conj", {"pending": ()}),
        ("torch-sparse", {"layout": "strided"}),
        ("torch-wrapper", {"densifies": True}),
        ("torch-quantized", {"dense_dtype": None}),
        ("torch-fake", {"no_data": None}),
        ("numpy-reversed", {"strides": (3, 1)}),
        ("cupy-managed", {"device": interop.Device("cpu"), "memory": "plain"}),
        ("numpy-off-64", {"pointer": 4096}),
        ("numpy-stepped", {"strides": (3, 1)}),
        ("jax", {"readonly": False}),
        ("jax-traced", {"no_data": None}),
        ("jax-deleted", {"no_data": None}),
        ("array-api-strict-ext:1", {"device": interop.Device("cpu")}),
    ],
)
def test_a_planner_that_does_not_see(monkeypatch, producer, blind):
    its = [case for case in FEW if case.producer == producer]
    assert first_wrong(its) is None
    monkeypatch.setattr(policy, "decide", with_description(**blind))
    assert first_wrong(its) is not None


def refusing(plan, **words):
    return replace(plan, refusals=tuple(refusal._replace(**words) for refusal in plan.refusals))


LIARS = {
    "offers too much": (lambda plan: refusing(plan, permissions={"mask": "drop"}), "the refusal offers mask=drop"),
    "offers nothing": (lambda plan: refusing(plan, permissions={}), "the refusal offers nothing"),
    "names the first only": (lambda plan: replace(plan, refusals=plan.refusals[:1]), "; the law: refused: "),
    "refuses nothing": (lambda plan: replace(plan, refusals=()), "not refused; the law: refused: "),
    "counts twice": (
        lambda plan: replace(plan, steps=tuple(step._replace(bytes=step.bytes * 2) for step in plan.steps)),
        "48 bytes copied; the law: 24",
    ),
    "does not protect": (
        lambda plan: replace(plan, steps=tuple(step for step in plan.steps if step.kind != "protect")),
        "read-only: False; the law: True",
    ),
    "copies nothing": (lambda plan: replace(plan, steps=()), "shares: True; the law: False"),
    "goes elsewhere": (lambda plan: replace(plan, device=interop.Device("cuda", 1)), "where and as what: "),
    "has another dtype": (lambda plan: replace(plan, dtype="float64"), "where and as what: "),
}


@pytest.mark.parametrize("liar", LIARS)
def test_a_planner_that_lies(monkeypatch, liar):
    lie, seen = LIARS[liar]
    monkeypatch.setattr(policy, "decide", lambda x, asked: lie(HONEST(x, asked)))
    reasons = [
        policy.observe(case).reason for case in FEW if case.producer in ("numpy", "torch-grad", "torch-cuda-grad", "torch-sparse-grad")
    ]
    assert any(seen in reason for reason in reasons), reasons


def test_a_recipe_that_does_not_get_through(monkeypatch):
    """The law's own recipe is offered, but the planner refuses it when it comes back."""

    def stubborn(x, asked):
        plan = HONEST(x, asked)
        return plan if plan.refusals or asked.policy.grad == "error" else HONEST(x, asked._replace(policy=Policy()))

    case = case_of("torch-grad", "numpy", copy="None", grad="error", readonly="copy")
    assert policy.observe(case).outcome == "refused"
    monkeypatch.setattr(policy, "decide", stubborn)
    assert policy.observe(case) == ("wrong", "grad=detach passed back is refused: refused: grad")


def test_a_permission_without_a_say_is_named(monkeypatch):
    def minding(x, asked):
        return HONEST(x, asked._replace(policy=asked.policy.replace(copy=True)) if asked.policy.mask == "drop" else asked)

    monkeypatch.setattr(policy, "decide", minding)
    observed = policy.observe(case_of("numpy", "torch", copy="None"))
    assert observed == ("wrong", "another plan with mask=drop, of which something has no say here")


def test_a_planner_that_raises_is_unexplained(monkeypatch):
    def raising(x, asked):
        raise KeyError("x")

    monkeypatch.setattr(policy, "decide", raising)
    assert observe_in_run(CASES[0], {}) == ("unexplained", "KeyError: 'x'")


def test_a_case_that_is_none_is_no_answer():
    with pytest.raises(KeyError):
        policy.observe(Case("policy", "interop", "numpy", "torch", "copy=perhaps"))
