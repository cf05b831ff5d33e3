"""Types that lie about what they equal, and objects that change what is in use: no crash, and no bare error. Each in a process of its own.

Python's own allocator fills what is freed there, so that what reads it afterwards does not go unnoticed.
"""

import os
import subprocess
import sys
import textwrap

import pytest

from interop._engine.fastpath import compiled

needs_c = pytest.mark.skipif(compiled is None, reason="interop.native.fastpath is not built here: run `make test`")

PRELUDE = """
import ctypes, dataclasses, gc, sys, threading, typing
from collections import OrderedDict
import numpy as np, torch, interop
from interop._engine.fastpath import compiled
EMPTY = dict.fromkeys(("must_be_false", "must_be_true", "no_level", "no_mode", "getter", "declines"), ())
NOTHING = dict(checks_itself=None, expects_view=None, has_storage=None, read_only=False)
def guarded(handoff, **words):
    return compiled.Guarded(handoff=handoff, **(EMPTY | NOTHING | words))
"""


def holds(code, *args):
    """Run a script whose last line of output must be 'holds'."""
    script = PRELUDE + textwrap.dedent(code) + "\nprint('holds')\n"
    environment = os.environ | {"PYTHONMALLOC": "debug"}
    done = subprocess.run([sys.executable, "-c", script, *args], capture_output=True, text=True, timeout=200, check=False, env=environment)
    assert (done.returncode, done.stdout.strip()) == (0, "holds"), f"{done.returncode}: {done.stdout} {done.stderr[-2000:]}"


CLAIMS = """
@dataclasses.dataclass
class Record:
    x: object
class Pair(typing.NamedTuple):
    x: object
    y: object
Size = type(torch.ones(2, 2).max(0))
CLAIMED = [list, tuple, dict, OrderedDict, Record, Pair, Size, type(None), torch.Tensor, torch.nn.Parameter, np.ndarray, np.float64]

def odd(claimed, how):
    class Meta(type):
        if how == "lies":
            def __hash__(cls): return hash(claimed)
            def __eq__(cls, other): return other is claimed or other is cls
            def __ne__(cls, other): return not cls == other
        elif how == "equals everything":
            def __hash__(cls): return hash(claimed)
            def __eq__(cls, other): return True
            def __ne__(cls, other): return False
        elif how == "has no hash":
            __hash__ = None
            def __eq__(cls, other): return other is claimed
        elif how == "raises":
            def __hash__(cls): return hash(claimed)
            def __eq__(cls, other): raise ZeroDivisionError
        else:
            def __hash__(cls): raise ZeroDivisionError
    class Odd(metaclass=Meta):
        __slots__ = ()
    class Larger(metaclass=Meta):
        def __init__(self): self.x = np.ones(2)
    return Odd(), Larger()

def plain():
    return [torch.ones(1), np.ones(1), [], (), {}, None, OrderedDict(a=1), Record(np.ones(1)), Pair(1, np.ones(1)), torch.ones(2, 2).max(0), np.float64(1)]

interop.tree.convert(plain(), "numpy"), interop.to_torch(np.ones(1)), interop.to_numpy(torch.nn.Parameter(torch.ones(1)), grad="detach")
"""

HOWS = ["lies", "equals everything", "has no hash", "raises", "has a hash that raises"]


@pytest.mark.parametrize("how", HOWS)
def test_a_class_that_says_that_it_equals_another_is_not_taken_for_it(how):
    holds(
        CLAIMS
        + """
how = sys.argv[1]
for claimed in CLAIMED:
    for x in odd(claimed, how):
        for verb in (interop.to_torch, interop.to_numpy, interop.describe, lambda x: interop.to_numpy(x, grad="detach"), lambda x: interop.convert(x, "torch")):
            try: made = verb(x)
            except interop.InteropError: continue
            raise SystemExit(f"{claimed} gave {made!r}")
        assert not interop.explain(x, "numpy").ok
""",
        how,
    )


@pytest.mark.parametrize("how", HOWS)
def test_a_tree_does_not_take_it_for_a_container(how):
    """It is a leaf, kept as it is, or refused by name; whatever stands beside it is converted as ever."""
    holds(
        CLAIMS
        + """
for claimed in CLAIMED:
    for x in odd(claimed, sys.argv[1]):
        for tree in ([x], (x, x), {"a": x}, [*plain(), x], [x, *plain()], [Record(x)], [Record(np.ones(1)), Record(x)], Pair(x, x), OrderedDict(a=x)):
            for act in (lambda t: interop.tree.convert(t, "torch"), interop.tree.describe, lambda t: interop.tree.explain(t, "torch")):
                try: act(tree)
                except interop.InteropError: pass
            try: made = interop.tree.convert([torch.ones(1), x, *plain()], "numpy")
            except interop.InteropError: continue
            assert made[1] is x and type(made[0]) is type(made[2]) is np.ndarray
# The negative control: nothing that was learned of them is taken for the honest types.
made = interop.tree.convert(plain(), "numpy")
assert type(made[0]) is np.ndarray and type(made[7]) is Record and made[2:6] == [[], (), {}, None]
""",
        how,
    )


@needs_c
@pytest.mark.parametrize("kind", ["Guarded", "Verb"])
def test_what_the_collector_has_cleared_raises_when_it_is_called(kind):
    """A destructor in C may call it in the same collection; here its slot is called by hand."""
    holds(
        """
slot = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_int)(("PyType_GetSlot", ctypes.pythonapi))
from interop._model.scope import fast_path_off
if sys.argv[1] == "Guarded": made = guarded(str)
else: made = compiled.Verb(plain={int: guarded(str)}, detaching={}, fast_path_off=fast_path_off, general=repr)
assert made(3) == "3"  # the negative control
Py_tp_clear = 51
ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object)(slot(type(made), Py_tp_clear))(made)
for call in (lambda: made(3), lambda: made(3.0), lambda: compiled.convert_all([3], {int: made})):
    try: call()
    except ReferenceError as error: assert "cleared" in str(error)
    else: raise SystemExit("called")
repr(made)
del made
gc.collect()
""",
        kind,
    )


@needs_c
def test_a_descriptor_that_is_only_written_to_is_an_error():
    holds("""
class Definition(ctypes.Structure):
    _fields_ = [("name", ctypes.c_char_p), ("get", ctypes.c_void_p), ("set", ctypes.c_void_p), ("doc", ctypes.c_char_p), ("closure", ctypes.c_void_p)]
new = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.py_object, ctypes.POINTER(Definition))(("PyDescr_NewGetSet", ctypes.pythonapi))
definition = Definition(b"written", None, 1, None, None)
descriptor = new(int, ctypes.byref(definition))
for words in ({"must_be_false": ((descriptor,),)}, {"must_be_true": ((descriptor,),)}, {"getter": (descriptor,)}):
    try: guarded(str, **words)(3)
    except AttributeError as error: assert "not readable" in str(error)
    else: raise SystemExit("read")
""")


@needs_c
def test_a_view_can_only_be_an_ndarray():
    holds("""
class Own(np.ndarray): pass
for wrong in (list, Own, object(), "ndarray", int):
    try: guarded(list, expects_view=wrong)
    except TypeError as error: assert "numpy.ndarray" in str(error)
    else: raise SystemExit(f"took {wrong}")
x = np.ones(2)
assert np.shares_memory(guarded(lambda x: x[:], expects_view=np.ndarray)(x), x)
assert guarded(list, expects_view=np.ndarray)(x) is None
""")


@needs_c
def test_a_table_may_be_emptied_while_it_is_used():
    holds("""
gc.freeze()  # so that collecting is quick
from interop._model.scope import fast_path_off
def filled(table):
    def clear():
        table.clear()
        return [bytearray(120) for _ in range(1000)] is None
    return guarded(lambda x: [x], checks_itself=clear)
for _ in range(100):
    table = {}
    table[int] = filled(table)
    assert compiled.convert_all([1, 2, 3], table) == [[1], None, None]
    verb = compiled.Verb(plain=table, detaching=table, fast_path_off=fast_path_off, general=lambda x, **words: "general")
    table[int] = filled(table)
    assert verb(3) == [3] and verb(3, grad="detach") == "general"
    table[int] = filled(table)
    assert verb(3, grad="detach") == [3]

@dataclasses.dataclass
class Record:
    x: object
def asked(x):
    schemas.clear()
    gc.collect()
    return ("x",) if type(x) is Record else None if type(x) is int else type(x)
for _ in range(10):
    schemas = {}
    tree = [[1, {"a": Record(2)}, (3, Record([4]))]]
    assert compiled.flatten(tree, schemas, {}, asked) == [1, 2, 3, 4]

class Key:
    def __init__(self, n): self.n = n
    def __hash__(self): return 1
    def __eq__(self, other): return self.n == other.n
    def __lt__(self, other):
        schemas.clear(); leaves.clear(); results.clear(); gc.collect()
        return self.n < other.n
for _ in range(10):
    schemas, leaves, results = {list: list, dict: dict, int: None}, [1, 2], ["a", "b"]
    try: made = compiled.unflatten([[{Key(1): 1, Key(2): 2}]], schemas, leaves, results, None)
    except RuntimeError: pass
    else: raise SystemExit(made)
""")


@needs_c
def test_a_schema_that_is_not_an_objects_own_is_for_the_general_way():
    holds("""
for schema in (list, tuple, dict):
    for x in (3, "text", object(), np.ones(1), {1, 2}):
        assert compiled.flatten([x], {type(x): schema}, {}, None) is None
        try: compiled.unflatten([x], {type(x): schema}, [x], [x], None)
        except RuntimeError: pass
        else: raise SystemExit(x)
class One:
    __slots__ = ("x",)
class Two:
    __slots__ = ("x",)
def asked(x):
    if isinstance(x, One): x.__class__ = Two
    return ("x",)
schemas, one = {}, One()
one.x = 3
assert compiled.flatten([one], schemas, {}, asked) is None and One not in schemas
""")


@needs_c
def test_the_collector_is_left_as_others_have_set_it():
    """While code of others may run it is as they have set it; it is paused where none can, and only there."""
    holds("""
seen = []
class Key:
    act = None
    def __init__(self, n): self.n = n
    def __hash__(self): return self.n
    def __eq__(self, other): return self.n == other.n
    def __lt__(self, other):
        seen.append(gc.isenabled())
        Key.act()
        return self.n < other.n
def rebuilt():
    tree = [[1.0], {Key(1): 1.0, Key(2): 2.0}, [2.0, {"a": 1.0}]]
    leaves = [1.0, 1.0, 2.0, 2.0, 1.0]  # not by flatten, which leaves such keys to Python
    compiled.unflatten(tree, {list: list, dict: dict, float: None}, leaves, leaves, None)
def elsewhere(act):
    def run():
        thread = threading.Thread(target=act); thread.start(); thread.join()
    return run
for before in (True, False):
    for act, after in ((gc.disable, False), (gc.enable, True), (lambda: None, before)):
        for one in (act, elsewhere(act)):
            seen.clear()
            (gc.enable if before else gc.disable)()
            Key.act = lambda: None
            rebuilt()
            assert seen and set(seen) == {before} and gc.isenabled() is before
            Key.act = one
            rebuilt()
            assert gc.isenabled() is after, (before, act)
gc.enable()
started = []
gc.callbacks.append(lambda phase, info: started.append(phase))
tree = [[{"a": [1.0], "b": (2.0,)}] for _ in range(5000)]
schemas = {list: list, dict: dict, tuple: tuple, float: None}
leaves = compiled.flatten(tree, schemas, {}, None)
started.clear()
made = compiled.unflatten(tree, schemas, leaves, leaves, None)
assert not started, "collected while nothing was garbage"
again = [[{"a": [1.0], "b": (2.0,)}] for _ in range(5000)]
assert started, "the negative control: as many containers do start it"
""")
