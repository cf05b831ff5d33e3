"""The other distribution that installs a package called ``interop``: Illumina's InterOp, whose distribution has that name too.

pip lets both into one folder, where the later one overwrites the other's ``__init__.py`` and ``__main__.py``; uninstalling
either then removes files that the other needs. Where Illumina's ``__init__.py`` is the one that is there, ``python -m interop``
is Illumina's too. The modules below it are still ours and so is the script, so ``interop doctor`` runs: nothing that it imports may
need a name of the package itself.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from interop._version import __version__

if TYPE_CHECKING:
    from interop.doctor.distributions import Distributions

__all__ = ["name_clash"]

OURS, OTHER = "array-interop", "interop"

_REPAIR = "Run pip uninstall interop array-interop, then pip install array-interop; Illumina's needs an environment of its own."


def name_clash(distributions: Distributions) -> list[str]:
    """Return what is wrong between the two distributions, in sentences; nothing where only ours is installed."""
    problem = _problem(distributions)
    return [f"{problem}. {_REPAIR}"] if problem else []


def _problem(distributions: Distributions) -> str:
    package = sys.modules["interop"]
    version = getattr(package, "__version__", None)
    found = distributions.find_version(OTHER)
    other = f"{OTHER} {found} (Illumina InterOp, an unrelated library)" if found else "another distribution"
    if getattr(package, "__file__", None) is None:
        return f"interop/__init__.py is missing: pip uninstall {OTHER} removes it, also where {OURS} has overwritten it"
    if version != __version__:
        return f"import interop gives version {version}, of {other}: it covers {OURS} {__version__}"
    if found is None or distributions.find_version(OURS) is None:
        return ""
    if distributions.same_folder(OURS, OTHER):
        return (
            f"{OURS} {__version__} and {other} are installed in one folder, and both write interop/__init__.py; "
            f"now it is {OURS}'s, so the other does not work, and uninstalling either breaks both"
        )
    return f"{OURS} {__version__} and {other} are both installed, in two folders: {OURS} comes first and hides the other"
