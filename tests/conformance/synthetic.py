"""Made-up results, small and with one of everything, for the tests of the reports."""

from itertools import product
from types import SimpleNamespace

from interop_conformance.protocol.rules import Rule
from interop_conformance.results.files import Results
from interop_conformance.results.outcomes import OUTCOMES
from interop_conformance.results.records import Case, Record

NASTY = "<img src=x onerror=\"document.title='gone'\"> & 'quotes' | `ticks`"
LONG = "strides must be positive"
DEVIATION = SimpleNamespace(
    id="torch-negative-stride", happens="torch aborts on a <negative> stride.", link="https://github.com/pytorch/pytorch/issues/188023"
)
LIBRARIES = ("numpy", "torch", "jax")
DTYPES = ("float32", "int8", "bool")
LAYOUTS = ("compact", "reversed")


def rule(name, level="must", allowed=("shared",), also=None):
    link = "https://dmlc.github.io/dlpack/latest/c_api.html"
    return Rule(name, f"The fact of {name}", level, f'The clause of <{name}> & "more"', "dlpack.h", link, "1.0", frozenset(allowed), also)


ALSO = {"clause": "Another text says otherwise.", "source": "the array API standard", "link": "https://data-apis.org/array-api/latest/"}
RULES = {
    each.id: each
    for each in (
        rule("producer.flag", also=ALSO),
        rule("producer.refusal", allowed=("refused",)),
        rule("producer.wish", level="may"),
        rule("consumer.rename", level="should"),
        rule("exchange.guards"),
    )
}


def known(record, environment):
    """Explain the crashes of torch, where there is torch."""
    there = "torch" in environment["libraries"]
    return DEVIATION if there and record.outcome == "crash" and record.case.consumer == "torch" else None


def environment(**changes):
    libraries = {name: {"distribution": name, "version": "1.2.3", "unavailable": ""} for name in LIBRARIES}
    libraries["cupy"] = {"distribution": "cupy-cuda13x", "version": None, "unavailable": "no <CUDA> device"}
    hardware = {"machine": "x86_64", "gpu": None}
    return {
        "interop": "0.4.0",
        "python": "3.11.2",
        "platform": "Linux x86_64",
        "hardware": hardware,
        "libraries": libraries,
        "selection": {},
    } | changes


def _handoffs():
    for route in ("dlpack", "native", "interop"):
        for producer in LIBRARIES:
            for consumer in LIBRARIES:
                for dtype in DTYPES:
                    for layout in LAYOUTS:
                        yield Case("handoff", route, producer, consumer, dtype=dtype, layout=layout, state="plain")


def _answer(case):
    if case.route == "interop":
        return "shared", ""
    if case.consumer == "torch" and case.layout == "reversed":
        return "crash", "SIGABRT"
    if case.producer == "jax" and case.layout == "reversed":
        return "refused", LONG
    return ("wrong", NASTY) if case.dtype == "bool" and case.consumer == "jax" else ("shared", "")


def records():
    protocol = [
        ("numpy", "capsule", "producer.flag", "shared", ""),
        ("torch", "capsule", "producer.flag", "copied", "the flag is missing"),
        ("numpy", "capsule", "producer.refusal", "refused", ""),
        ("torch", "capsule", "producer.refusal", "unexplained", "RuntimeError"),
        ("numpy", "capsule", "producer.wish", "refused", "not done"),
        ("capsule", "torch", "consumer.rename", "crash", "SIGSEGV"),
        ("torch", "capsule", "exchange.guards", "unsupported", "no such table"),
    ]
    for producer, consumer, name, outcome, reason in protocol:
        yield Record(Case("protocol", "dlpack", producer, consumer, name, "float32", "compact", "plain"), outcome, reason, (name,))
    for case in _handoffs():
        outcome, reason = _answer(case)
        yield Record(case, outcome, reason, ("producer.flag",) if outcome == "wrong" else ())
    # One of each outcome, in one cell; and a cell with more cases than fit on one page of its list.
    for number, outcome in enumerate(OUTCOMES):
        yield Record(
            Case("handoff", "dlpack", "numpy", "numpy", dtype=f"int{number}", layout="1d", state="plain"), outcome, f"why {outcome}"
        )
    for number in range(250):
        yield Record(Case("handoff", "native", "torch", "numpy", dtype="float32", layout=f"layout-{number}", state="grad"), "refused", LONG)
    for permissions in ("copy=None,grad=error", "copy=False,grad=detach"):
        yield Record(Case("policy", "interop", "torch", "numpy", permissions, "float32", "compact", "grad"), "refused", "GradError")


RESULTS = Results(environment(), tuple(records()))
OTHER = Results(environment(hardware={"machine": "x86_64", "gpu": "NVIDIA <H200>"}), RESULTS.records[:40])


def matrix():
    """Return as many records as the whole matrix has, with about as many reasons."""
    reasons = ("", "not aligned to 64 bytes", "BufferError: no {}", "{} became uint8", "SIGABRT in {}")
    outcomes = ("shared", "copied", "refused", "wrong", "crash")
    for number, (route, p, c, d, y, s) in enumerate(
        product(("dlpack", "native", "interop"), range(7), range(6), range(25), range(13), range(4))
    ):
        chosen = (p * 7 + c * 5 + d * d * 3 + y * y + s * y + number % 11) % 5
        yield Record(
            Case("handoff", route, f"p{p}", f"c{c}", "", f"d{d}", f"l{y}", f"s{s}"), outcomes[chosen], reasons[chosen].format(f"d{d}")
        )
