"""Consumers: names and versions, and who calls the deleter, when and how often."""

from __future__ import annotations

import gc
import threading
from typing import TYPE_CHECKING, Any

from interop_conformance.adapters._base import SuiteFault, Unsupported
from interop_conformance.capsules.crafted import LEGACY, USED, VERSIONED, Producer, rename
from interop_conformance.protocol.consumers.ask import ANY, ODD_DEVICE, consumer_check, until
from interop_conformance.results.outcomes import GOOD, Observed

if TYPE_CHECKING:
    from interop_conformance.protocol.consumers.ask import Offer

# ---- names


def _renamed(offer: Offer, producer: Producer, fresh: bytes) -> Observed:
    expected = producer.means().copy()
    result = offer.array(producer)
    if fresh == VERSIONED:
        offer.need_versioned(producer)
    names, early = [ticket.name for ticket in producer.tickets], producer.deleted
    observed = offer.look(result, producer, expected)
    del result
    until(lambda: bool(producer.deleted))
    # Who copies may leave the capsule alone, with its name and its deleter.
    left_alone = observed.outcome == "copied" and not early and not producer.deleted
    if observed.outcome in GOOD and USED[fresh] not in names and not left_alone:
        return Observed("unsafe", f"the capsule is consumed and named {names[-1].decode(errors='replace')}")
    if [ticket.name for ticket in producer.tickets] != names:
        return Observed("unsafe", "the capsule's new name is memory that went away with the array")
    return observed


@consumer_check("consumer.renames-legacy")
def _renames_legacy(offer: Offer) -> Observed:
    if not offer.takes_legacy():
        raise Unsupported("takes no legacy capsules")
    return _renamed(offer, offer.craft(version=None, hold=True), LEGACY)


@consumer_check("consumer.renames-versioned")
def _renames_versioned(offer: Offer) -> Observed:
    return _renamed(offer, offer.craft(hold=True), VERSIONED)


@consumer_check("consumer.consumes-once")
def _consumes_once(offer: Offer) -> Observed:
    observed = Observed("refused")
    for asked, name in (({}, LEGACY), ({"max_version": (1, 3)}, VERSIONED)):
        first = offer.craft(hold=True)
        used = first.capsule(asked)
        rename(used, USED[name])
        observed = offer.refuses(Producer(first.array, gives=used, device=first.device))
        gc.collect()
        if first.deleted:
            return Observed("unsafe", f"the deleter of a capsule named {USED[name].decode()} was called")
        if observed.outcome != "refused":
            return Observed(observed.outcome, f"{observed.reason}, named {USED[name].decode()}")
    return observed


@consumer_check("consumer.accepts-legacy")
def _accepts_legacy(offer: Offer) -> Observed:
    return offer.take(offer.craft(version=None))


# ---- the deleter


def _freed(offer: Offer, producer: Producer) -> Observed:
    """Take and drop, capsule and all; return how it was, once every deleter that is to come has come."""
    observed = offer.take(producer)
    until(lambda: producer.null_deleter or producer.deleted >= producer.made)
    producer.release()
    gc.collect()
    return observed


def _twice(producer: Producer) -> bool:
    return any(ticket.deleted > 1 for ticket in producer.tickets)


@consumer_check("consumer.deleter-called")
def _deleter_called(offer: Offer) -> Observed:
    return _let_go(offer, offer.craft())


def _let_go(offer: Offer, producer: Producer) -> Observed:
    observed = _freed(offer, producer)
    leaked = any(not ticket.deleted for ticket in producer.tickets)
    return Observed("unsafe", "the deleter was never called") if leaked and observed.outcome in GOOD else observed


@consumer_check("consumer.context-null")
def _context_null(offer: Offer) -> Observed:
    # Paddle skips the deleter then, and frees nothing; what else is crafted has a context, so that this is one finding and not many.
    if offer.takes_legacy() and (legacy := _let_go(offer, offer.craft(version=None, null_context=True))).outcome not in GOOD:
        return legacy
    return _let_go(offer, offer.craft(null_context=True))


@consumer_check("consumer.deleter-once")
def _deleter_once(offer: Offer) -> Observed:
    for hold in (False, True):
        producer = offer.craft(hold=hold)
        observed = _freed(offer, producer)
        if _twice(producer):
            return Observed("unsafe", f"the deleter was called twice; the {'capsule' if hold else 'array'} died last")
    return observed


@consumer_check("consumer.deleter-not-early")
def _deleter_not_early(offer: Offer) -> Observed:
    producer = offer.craft()
    expected = producer.means().copy()
    result = offer.array(producer)
    gc.collect()
    observed = offer.look(result, producer, expected)
    if observed.outcome == "wrong" and producer.deleted:
        return Observed("unsafe", "the deleter was called while the array lives, and the array reads freed memory")
    if observed.outcome != "shared":
        return observed
    if _gone(producer):
        return Observed("unsafe", "the deleter was called while the array lives")
    view = _view_of(offer, result)
    del result
    gc.collect()
    return (
        Observed("unsafe", "the deleter was called while a view of the array lives") if view is not None and _gone(producer) else observed
    )


def _gone(producer: Producer) -> bool:
    return all(ticket.deleted for ticket in producer.tickets)


def _view_of(offer: Offer, result: Any) -> Any:
    """Return another array on the same memory; None if the library makes none."""
    start, size = offer.adapter.pointer(result), offer.values().nbytes
    try:
        view = result[1:, ...]
    except Exception:  # a container that cannot be indexed, or not like this
        view = offer.array(result)
    return view if start <= offer.adapter.pointer(view) < start + size else None


@consumer_check("consumer.deleter-thread")
def _deleter_thread(offer: Offer) -> Observed:
    producer = offer.craft()
    expected = producer.means().copy()
    holder = [offer.array(producer)]
    observed = offer.look(holder[0], producer, expected)
    thread = threading.Thread(target=holder.clear)
    thread.start()
    thread.join()
    if not until(lambda: producer.deleted >= producer.made) or _twice(producer):
        return Observed("unsafe", f"the array died in another thread, and the deleter was called {producer.deleted} times")
    return observed


@consumer_check("consumer.deleter-null")
def _deleter_null(offer: Offer) -> Observed:
    if offer.takes_legacy() and (legacy := _freed(offer, offer.craft(version=None, null_deleter=True))).outcome not in GOOD:
        return legacy
    return _freed(offer, offer.craft(null_deleter=True))


_REFUSABLE: dict[str, dict[str, Any]] = {
    "an unknown type code": {"dtype": (200, 32, 1)},
    "an opaque handle": {"dtype": (3, 32, 1)},
    "four lanes": {"dtype": (2, 8, 4)},
    "an unknown device": {"device": ODD_DEVICE},
    "no data": {"null": True},
}


@consumer_check("consumer.deleter-on-refusal")
def _deleter_on_refusal(offer: Offer) -> Observed:
    seen = None
    for what, how in _REFUSABLE.items():
        producer = offer.craft(**how)
        observed = offer.refuses(producer)
        if observed.outcome != "refused" or not producer.made:
            continue
        seen = observed
        until(lambda producer=producer: producer.deleted >= producer.made)  # type: ignore[misc]
        if any(ticket.deleted != 1 for ticket in producer.tickets):
            return Observed("unsafe", f"{what} was refused, and the deleter was called {producer.deleted} times")
    if seen is None:
        raise Unsupported("refuses no capsule that was crafted here")
    return seen


# ---- versions


@consumer_check("consumer.max-version-passed")
def _max_version_passed(offer: Offer) -> Observed:
    producer = offer.craft()
    observed = offer.take(producer, refusals=ANY)
    passed = [asked["max_version"] for asked in producer.asked if asked.get("max_version") is not None]
    if not passed:
        return Observed("wrong", "max_version was not passed")
    well = all(isinstance(each, tuple) and len(each) == 2 and all(type(part) is int for part in each) for each in passed)
    return observed if well else Observed("wrong", f"max_version={passed[0]!r} was passed")


@consumer_check("consumer.retries-legacy")
def _retries_legacy(offer: Offer) -> Observed:
    # ``stream`` was there from the first version of the protocol on.
    return offer.take(offer.craft(version=None, knows=("stream",)))


def _other_major(offer: Offer, **how: Any) -> tuple[Producer, Observed]:
    producer = offer.craft(version=(2, 0), **how)
    observed = offer.refuses(producer)
    offer.need_versioned(producer)
    return producer, observed


@consumer_check("consumer.major-refused")
def _major_refused(offer: Offer) -> Observed:
    return _other_major(offer)[1]


@consumer_check("consumer.major-deleter")
def _major_deleter(offer: Offer) -> Observed:
    producer, observed = _other_major(offer)
    if observed.outcome != "refused":
        raise Unsupported("takes another major version, which consumer.major-refused is about")
    until(lambda: producer.deleted >= producer.made)
    if any(ticket.deleted != 1 for ticket in producer.tickets):
        return Observed("unsafe", f"the deleter was called {producer.deleted} times")
    return observed


@consumer_check("consumer.major-untouched")
def _major_untouched(offer: Offer) -> Observed:
    try:
        return _other_major(offer, fenced=True)[1]
    except OSError as error:
        raise SuiteFault(f"no fence could be put up: {error}") from error


@consumer_check("consumer.minor-newer")
def _minor_newer(offer: Offer) -> Observed:
    producer = offer.craft(version=(1, 99))
    observed = offer.take(producer)
    offer.need_versioned(producer)
    return observed
