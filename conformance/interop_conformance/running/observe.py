"""One case, in this process: which layer's it is, and what an exception means."""

from __future__ import annotations

from typing import TYPE_CHECKING

from interop_conformance.adapters import SuiteFault, Unsupported
from interop_conformance.adapters._base import NotItsOwn
from interop_conformance.matrix import handoff
from interop_conformance.protocol import Variant, checks
from interop_conformance.results.outcomes import NOT_ITS_OWN, Observed
from interop_conformance.results.texts import first_sentence

if TYPE_CHECKING:
    from collections.abc import Mapping

    from interop_conformance.adapters import Adapter
    from interop_conformance.results.records import Case

__all__ = ["observe"]


def observe(case: Case, adapters: Mapping[str, Adapter]) -> Observed:
    """Run a case and return what was observed; never raises for what a library does."""
    try:
        return _observe(case, adapters)
    except Unsupported as reason:
        return Observed("unsupported", first_sentence(str(reason)))
    except NotItsOwn as reason:
        return Observed("not-run", f"{NOT_ITS_OWN}{first_sentence(str(reason))}")
    except SuiteFault as fault:
        return Observed("not-run", f"the suite's own fault: {first_sentence(str(fault))}")
    except Exception as error:
        return Observed("unexplained", f"{type(error).__name__}: {first_sentence(str(error))}")
    finally:
        for name in {case.producer, case.consumer} & adapters.keys():
            adapters[name].synchronize()


def _observe(case: Case, adapters: Mapping[str, Adapter]) -> Observed:
    if case.layer == "handoff":
        return handoff.observe(case, adapters[case.producer], adapters[case.consumer])
    if case.layer == "protocol":
        library = case.consumer if case.producer == "capsule" else case.producer
        return checks()[case.case].run(adapters[library], Variant(case.dtype, case.layout, case.state))
    from interop_conformance.policy import layer as policy

    return policy.observe(case)
