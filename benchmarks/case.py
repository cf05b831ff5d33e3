"""What a benchmark is: statements, with the largest ratio that is allowed; data, so that a table is all there is to read.

Statements are source text, as for `timeit`: the row is titled by exactly what was timed, and no wrapper function adds
its own cost to both sides of a ratio (which would flatter it).
"""

from __future__ import annotations

import ast
from dataclasses import dataclass

__all__ = ["Case", "Reference"]


@dataclass(frozen=True)
class Reference:
    """What a call is compared with.

    Attributes
    ----------
    statement : str
        The raw primitive, the idiom that people write, or a peer's call.
    budget : float, optional
        The largest allowed ratio; None where the row is for information.
    or_ns : float, optional
        A time in nanoseconds that is also good enough, whatever the ratio.
    """

    statement: str
    budget: float | None = None
    or_ns: float | None = None


@dataclass(frozen=True)
class Case:
    """A call and what it is compared with, all measured in turns.

    Attributes
    ----------
    id : str
        Names the case in results; stays the same when the title changes.
    title : str
        What the case shows, as a fact.
    call : str
        The statement of interop.
    references : tuple of Reference
        What it is compared with.
    note : str
        What tells this case from another one with the same call, in the few words that a table has room for.
    scope : str
        An expression whose context manager is entered around the whole measurement.
    tail : str
        A statement that every contestant runs after its own, inside the timed loop (waiting for a device).
    drain : str
        A statement that runs between the rounds and is not timed.
    one_is_enough : bool
        Whether it is enough to be within one of the budgets; then the others are information.
    bytes : int, optional
        How many bytes every contestant moves, for a rate; None where the time says more.
    least : int, optional
        Rounds that are taken whatever they cost, in place of the settings'; for calls that take a second.
    """

    id: str
    title: str
    call: str
    references: tuple[Reference, ...]
    note: str = ""
    scope: str = ""
    tail: str = ""
    drain: str = ""
    one_is_enough: bool = False
    bytes: int | None = None
    least: int | None = None

    @property
    def statements(self) -> tuple[str, ...]:
        """The contestants, the call first."""
        return (self.call, *(reference.statement for reference in self.references))

    @property
    def setting(self) -> tuple[str, ...]:
        """The statements around the contestants."""
        return tuple(text for text in (self.scope, self.tail, self.drain) if text)


def names_in(*statements: str) -> list[str]:
    """Return the free names of statements, sorted; those that a comprehension binds are not free.

    >>> names_in("to_numpy(t)", "[x.cpu().numpy() for x in leaves]")
    ['leaves', 't', 'to_numpy']
    """
    nodes = [node for text in statements for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Name)]
    bound = {node.id for node in nodes if isinstance(node.ctx, ast.Store)}
    return sorted({node.id for node in nodes} - bound)
