"""The compiled modules are what they declare: more than one of `fastpath` at a time, and the others in the main interpreter only."""

import gc
import importlib.util
import subprocess
import sys
import weakref

import pytest

from interop.backends.shortcut import Shortcut

MODULES = {}
for name in ("fastpath", "lend", "async_pool"):
    spec = importlib.util.find_spec(f"interop.native.{name}")
    if spec is not None:
        MODULES[name] = spec.origin

needs = {
    name: pytest.mark.skipif(name not in MODULES, reason=f"interop.native.{name} is not built here")
    for name in ("fastpath", "lend", "async_pool")
}

IN_ANOTHER = """
import sys
if sys.version_info >= (3, 13):
    import _interpreters as interpreters
else:
    import _xxsubinterpreters as interpreters

code = '''
import importlib.machinery, importlib.util
loader = importlib.machinery.ExtensionFileLoader({name!r}, {path!r})
module = importlib.util.module_from_spec(importlib.util.spec_from_loader({name!r}, loader))
loader.exec_module(module)
if hasattr(module, "convert_all"):
    made = module.convert_all([1.0, 2.0, 2.0], {{float: lambda x: [x]}})
    assert made[1] is made[2]
    assert module.flatten([[1, 2]], {{list: list, int: None}}, {{}}, None) == [1, 2]
    empty = dict.fromkeys(["must_be_false", "must_be_true", "no_level", "no_mode", "getter", "declines"], ())
    own = module.Guarded(**empty, checks_itself=None, handoff=str, expects_view=None, has_storage=None, read_only=False)
    assert own(3) == "3"
'''.format(name=sys.argv[1], path=sys.argv[2])

for turn in range(2):
    other = interpreters.create()
    try:
        failed = interpreters.run_string(other, code)  # an exception, until Python 3.13 returned what happened instead
    except Exception as error:
        failed = error
    print("refused" if failed else "works", str(failed) if failed else "")
    interpreters.destroy(other)
"""


@pytest.mark.parametrize("name", [pytest.param(name, marks=mark) for name, mark in needs.items()])
def test_other_interpreters_are_taken_or_refused(name):
    ran = subprocess.run(
        [sys.executable, "-c", IN_ANOTHER, f"interop.native.{name}", MODULES[name]], capture_output=True, text=True, check=True
    )
    first, second = ran.stdout.splitlines()
    # Python asks for the declaration since 3.12, when interpreters got a GIL of their own.
    if name == "fastpath" or sys.version_info < (3, 12):
        assert (first.strip(), second.strip()) == ("works", "works"), ran.stdout
    else:
        assert "does not support loading in subinterpreters" in first
        assert "does not support loading in subinterpreters" in second


@needs["fastpath"]
def test_each_module_has_a_state_of_its_own_and_leaves_nothing():
    def make():
        made = importlib.util.module_from_spec(importlib.util.spec_from_file_location("interop.native.fastpath", MODULES["fastpath"]))
        made.__spec__.loader.exec_module(made)
        return made

    one, other = make(), make()
    assert one.Guarded is not other.Guarded
    empty = dict.fromkeys(("must_be_false", "must_be_true", "no_level", "no_mode", "getter", "declines"), ())
    shortcut = Shortcut(handoff=str)
    own = one.Guarded(
        checks_itself=None, handoff=shortcut.handoff, expects_view=None, has_storage=None, read_only=shortcut.read_only, **empty
    )
    gone = weakref.ref(one), weakref.ref(other), weakref.ref(one.Guarded)
    del one, other
    gc.collect()
    assert gone[1]() is None
    assert own(3) == "3"  # an object keeps its type, and the type the state
    del own
    gc.collect()
    assert [ref() for ref in gone] == [None] * 3
