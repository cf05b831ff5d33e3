"""What ``__dlpack__`` may be asked, and which version of the structure comes of it."""

from __future__ import annotations

from interop.dlpack import VERSION
from interop_conformance.adapters._base import Unsupported
from interop_conformance.capsules.capsule import read
from interop_conformance.protocol.producers.ask import PLAIN, Ask, Finding, producer_check, refused
from interop_conformance.results.outcomes import Observed

OLD, SAME, NEWER, NEXT_MAJOR = (0, 8), (1, 0), (1, 99), (2, 0)
_SINCE_1_1 = range(7, 18)  # type codes: float8, float6 and float4


@producer_check("producer.keywords", PLAIN)
def _keywords(ask: Ask) -> Observed:
    return ask.outcome_of_capsule(ask.export(stream=None, max_version=VERSION, dl_device=None, copy=None))


@producer_check("producer.keyword-only", PLAIN)
def _keyword_only(ask: Ask) -> Observed:
    try:
        raw = ask.array.__dlpack__(None)
    except Exception as error:  # no text says which class; Python's own is TypeError
        return refused(error)
    return Observed(ask.outcome_of_capsule(raw).outcome, "takes a positional argument")


@producer_check("producer.max-version-none", PLAIN)
def _none(ask: Ask) -> Observed:
    raw = ask.export()
    if not read(raw).legacy:
        return Observed("wrong", "a versioned capsule, which a consumer that asks for none cannot read")
    return ask.outcome_of_capsule(raw)


@producer_check("producer.max-version-same", PLAIN)
def _same(ask: Ask) -> Observed:
    return _versioned(ask, SAME)


def _versioned(ask: Ask, asked: tuple[int, int]) -> Observed:
    ask.need_known("max_version")
    raw = ask.export(max_version=asked)
    facts = read(raw)
    if facts.legacy:
        return Observed("wrong", f"a legacy capsule for max_version={asked}")
    return ask.outcome_of_capsule(raw)


def _own(ask: Ask) -> tuple[int, int]:
    version = ask.facts(ask.versioned()).version
    assert version is not None
    return version


@producer_check("producer.max-version-lower-minor", PLAIN)
def _lower_minor(ask: Ask) -> Observed:
    major, minor = _own(ask)
    if not minor:
        raise Unsupported(f"its own version is {major}.{minor}, and no minor is lower")
    return _versioned(ask, (major, minor - 1))


@producer_check("producer.max-version-higher", PLAIN)
def _higher(ask: Ask) -> Observed:
    own = _own(ask)
    for asked in (NEWER, NEXT_MAJOR):
        observed = _versioned(ask, asked)
        version = read(ask.export(max_version=asked)).version
        if version != own:
            raise Finding("wrong", f"version {_text(version)} for max_version={asked}, and {_text(own)} is its own")
    return observed


@producer_check("producer.max-version-old-major", PLAIN)
def _old_major(ask: Ask) -> Observed:
    ask.need_known("max_version")
    raw = ask.export(max_version=OLD)
    if not read(raw).legacy:
        return Observed("wrong", f"a versioned capsule for max_version={OLD}")
    return ask.outcome_of_capsule(raw)


def _text(version: tuple[int, int] | None) -> str:
    return ".".join(map(str, version)) if version else "none"
