"""Trees: nested containers whose leaves are arrays, converted, described and explained as a whole.

optree flattens what it knows (dicts, lists, tuples, named tuples, deques, registered types), `interop._trees.structure` what it
does not (dataclasses, a ``state_dict``). A leaf that holds arrays and is no container (an estimator, a table) is refused by name, so that
none is left behind silently. Every leaf is planned before any is converted, so that an error names every leaf that
is refused; each source object is converted once, so that aliases stay aliases.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from interop._engine.batch import ROOT, TreeConversion, unrebuildable
from interop._engine.batch_plan import TreePlan
from interop._engine.call import KEYWORDS, Call, Keywords, error_context, refused, spelled_out, target_of
from interop._model.description import Description
from interop._model.policy import check_names
from interop._model.spelling import no_attribute, no_value
from interop._trees.objects import why_left
from interop._trees.structure import flatten
from interop._untraced import untraced
from interop.backends import find_backend, is_array

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Unpack

    from interop._trees.objects import Objects
    from interop.errors import Refusal

__all__ = ["TreePlan", "convert", "describe", "explain"]

Others = Literal["keep", "error"]

OTHERS: tuple[Others, ...] = ("keep", "error")
OBJECTS: tuple[Objects, ...] = ("error", "keep", "open")


@untraced
@spelled_out(Keywords)
def convert(
    tree: Any,
    to: Any = None,
    /,
    *,
    is_leaf: Callable[[Any], bool] | None = None,
    others: Others = "keep",
    objects: Objects = "error",
    namespace: str = "",
    **as_convert: Unpack[Keywords],
) -> Any:
    """Return the same tree with every array converted, as `interop.convert` would do it.

    Parameters
    ----------
    tree : nested containers
        Dicts, lists, tuples, named tuples, deques, dataclasses, a ``state_dict``, types registered with optree; an
        array alone is a tree too. Neither it nor its containers are modified: the containers of the result are new.
    to : str or module
        The target, as for `interop.convert`; or ``like=``.
    is_leaf : callable, optional
        Returns whether a node is a leaf although it could be flattened (optree's).
    others : {"keep", "error"}
        Leaves that hold no arrays (names, dates, numbers of Python, also arrays of strings, dates or objects that the target cannot
        hold): ``"keep"`` returns them as they are, ``"error"`` raises. None is part of the structure. With ``dtype=`` such arrays are
        cast, as by `interop.convert`; strings and objects that are no numbers stay.
    objects : {"error", "keep", "open"}
        Leaves that hold arrays and are no containers (a fitted estimator, a module, a table, ``dict.values()``, a mapping of your
        own, a dict with arrays in its keys), and arrays of objects with numbers among them: ``"error"`` raises, ``"keep"`` returns them as they are, ``"open"`` returns a copy of each with its attributes
        converted, and raises for what has no attributes of its own or makes no copy. A leaf of `is_leaf` is kept.
    namespace : str
        The namespace under which types are registered with optree.
    **as_convert
        The keywords of `interop.convert`, for every leaf alike.

    Returns
    -------
    tree
        An array that occurs twice (tied weights) is converted once and occurs twice again; two arrays on one buffer are
        on one buffer again wherever they are shared. Leaves that are arrays of the target already are themselves.

    Raises
    ------
    InteropError
        If any leaf is refused; nothing was converted then. Its text and ``refusals`` name the path of each such leaf,
        and ``permissions`` make the call succeed, unless a refusal is final.

    Examples
    --------
    >>> import interop, numpy as np
    >>> batch = {"image": np.zeros((2, 2)), "label": [np.int64(3), "cat"]}
    >>> interop.tree.convert(batch, "torch")
    {'image': tensor([[0., 0.],
            [0., 0.]], dtype=torch.float64), 'label': [tensor(3), 'cat']}
    """
    return _conversion("tree.convert", tree, to, as_convert, is_leaf, others=others, objects=objects, namespace=namespace).run()


@untraced
@spelled_out(Keywords)
def explain(
    tree: Any,
    to: Any = None,
    /,
    *,
    is_leaf: Callable[[Any], bool] | None = None,
    others: Others = "keep",
    objects: Objects = "error",
    namespace: str = "",
    **as_convert: Unpack[Keywords],
) -> TreePlan:
    """Return the plan of `convert` with the same arguments; moves nothing, and never raises for a refusal.

    Leaves may also be descriptions (`interop.Description`), so that a tree on a GPU can be planned without one.

    Examples
    --------
    >>> import interop, numpy as np
    >>> print(interop.tree.explain({"a": np.ones(3), "b": [np.ones(2)[::-1]]}, "torch"))
    2 arrays -> torch: 16 bytes copied
      tree['a']: shared
      tree['b'][0]: 16 bytes copied: torch has no negative strides
    """
    described = _or_described(is_leaf)
    return _conversion("tree.explain", tree, to, as_convert, described, others=others, objects=objects, namespace=namespace).plan()


@untraced
def describe(tree: Any, /, *, is_leaf: Callable[[Any], bool] | None = None, objects: Objects = "error", namespace: str = "") -> Any:
    """Return the same tree with the description of every array in its place; other leaves stay.

    `objects` says what becomes of leaves that hold arrays and are no containers, as in `convert`.

    Examples
    --------
    >>> import interop, numpy as np
    >>> print(interop.tree.describe([np.ones(2, "float32"), "x"])[0])
    numpy.ndarray float32[2] on cpu
    """
    _check("objects", objects, OBJECTS)
    node = flatten(tree, is_leaf, namespace=namespace, objects=objects)
    look = _look(is_leaf, objects)
    described = []
    refusals = unrebuildable(node, ROOT, may_be_kept=True)
    for number, leaf in enumerate(node.leaves):
        with error_context(lambda number=number: f"tree.describe(tree), at {list(node.paths(ROOT))[number]}"):  # type: ignore[misc] # python/mypy#12557
            described.append(find_backend(leaf).describe(leaf) if is_array(leaf) else leaf)
        if described[-1] is leaf and (refusal := look(leaf, is_home=True)):
            refusals.append(refusal._replace(path=list(node.paths(ROOT))[number]))
    if refusals:
        call = Call("tree.describe", tree, "", subject=ROOT, objects=objects if objects != "error" else None)
        call.repeat = lambda changes: describe(tree, is_leaf=is_leaf, namespace=namespace, **{"objects": objects, **changes})
        raise refused(call, tuple(refusals), None, "everything")
    return node.unflatten(described)


def _conversion(
    verb: str,
    tree: Any,
    to: Any,
    words: Keywords,
    is_leaf: Callable[[Any], bool] | None,
    *,
    others: Others,
    objects: Objects,
    namespace: str,
) -> TreeConversion:
    check_names(words, (*KEYWORDS, "is_leaf", "others", "objects", "namespace"), "keyword")
    _check("others", others, OTHERS)
    _check("objects", objects, OBJECTS)
    options = {
        "is_leaf": is_leaf,
        "others": others if others != "keep" else None,
        "objects": objects if objects != "error" else None,
        "namespace": namespace or None,
    }
    call = Call(verb, tree, target_of(to, words.get("like")), to=to, subject=ROOT, **options, **words)
    given: dict[str, Any] = {"is_leaf": is_leaf, "others": others, "objects": objects, "namespace": namespace, **words}
    call.repeat = lambda changes: convert(tree, to, **given | changes)
    node = flatten(tree, is_leaf, namespace=namespace, objects=objects)
    return TreeConversion(call, node, keep=others == "keep", keep_opaque=True, why_left=_look(is_leaf, objects))


def _check(name: str, value: object, values: tuple[str, ...]) -> None:
    if value not in values:
        raise ValueError(no_value(name, value, values))


def _look(is_leaf: Callable[[Any], bool] | None, objects: Objects) -> Callable[..., Refusal | None]:
    """Return what says why a leaf must not be left as it is; where the caller said that it is a leaf, it may be."""
    return lambda leaf, *, is_home: None if is_leaf is not None and is_leaf(leaf) else why_left(leaf, objects, is_home=is_home)


def _or_described(is_leaf: Callable[[Any], bool] | None) -> Callable[[Any], bool]:
    return lambda x: isinstance(x, Description) or (is_leaf is not None and is_leaf(x))


def __getattr__(name: str) -> Any:
    raise no_attribute(__name__, name, __all__)
