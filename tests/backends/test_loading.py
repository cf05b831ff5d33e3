"""Backends are loaded once, whoever asks for them first, and however many do at once."""

import subprocess
import sys
import textwrap

import pytest

PRELUDE = """
import os, sys, threading, time
import interop
from interop import backends
from interop._engine import fastpath
shown = []
def slowly(backend):
    shown.append(backend.name)
    time.sleep(0.3)
def at_once(*works):
    failed = []
    start = threading.Barrier(len(works))
    def run(work):
        start.wait()
        try: work()
        except BaseException as error: failed.append(error)
    threads = [threading.Thread(target=run, args=(work,), daemon=True) for work in works]
    for thread in threads: thread.start()
    for thread in threads: thread.join(60)
    assert not any(thread.is_alive() for thread in threads), "they wait for each other"
    assert not failed, failed
"""


def holds(code):
    script = PRELUDE + textwrap.dedent(code) + "\nprint('holds')\n"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=150, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "holds"), done.stderr[-2000:]


def test_two_first_loads_are_one():
    """The second waits until the first has shown it to all observers."""
    holds("""
backends.when_loaded(slowly)
found = []
def load():
    found.append(backends.load_backend("numpy"))
    assert fastpath.table("numpy") and shown.count("numpy") == 1
at_once(*[load] * 4)
assert len(set(map(id, found))) == 1 and shown.count("numpy") == 1, shown
before = len(fastpath._with_streams)
at_once(*[lambda: backends.load_backend("torch")] * 4)
assert len(fastpath._with_streams) == before + 1
""")


def test_an_import_of_the_library_meanwhile_is_no_deadlock():
    """A thread that imports a library may need a backend in the middle, while another loads the library's backend.

    Another backend than the library's own: two threads that import the same two modules in opposite orders wait for each other
    in Python itself, which finds that out most of the time only (python/cpython#91351).
    """
    holds("""
import importlib.abc, importlib.util
from interop.backends import load_backend
class Slow(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == "array_api_strict._constants":  # in the middle of it
            time.sleep(0.5)
            load_backend("numpy")
        return None
sys.meta_path.insert(0, Slow())
def imports():
    import array_api_strict
def loads():
    time.sleep(0.2)
    try: load_backend("array_api_strict")
    except interop.BackendNotInstalledError: pass
at_once(imports, loads)
load_backend("array_api_strict")
""")


def test_an_observer_may_ask_for_the_backend_that_it_is_shown():
    holds("""
asked = []
def observe(backend):
    asked.append(backends.load_backend(backend.name) is backend)
    backends.load_backend("array_api_strict")
backends.when_loaded(observe)
backends.load_backend("numpy")
assert asked and all(asked), asked
""")


def test_an_observer_that_is_interrupted_is_shown_it_again():
    holds("""
def observe(backend):
    shown.append(backend.name)
    if len(shown) == 1: raise KeyboardInterrupt
backends.when_loaded(observe)
try: backends.load_backend("array_api_strict")
except KeyboardInterrupt: pass
assert backends.load_backend("array_api_strict") is backends.load_backend("array_api_strict")
assert shown == ["array_api_strict"] * 2, shown
""")


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="needs os.fork")
def test_a_child_of_a_process_that_is_loading_can_load():
    holds("""
import warnings
warnings.simplefilter("ignore", DeprecationWarning)  # Python's own, about forking with threads: that is what is tried
loading = threading.Event()
def observe(backend):
    loading.set()
    time.sleep(1)
backends.when_loaded(observe)
thread = threading.Thread(target=lambda: backends.load_backend("numpy"))
thread.start()
loading.wait()
child = os.fork()
if not child:
    backends.load_backend("array_api_strict")
    os._exit(7)
for _ in range(300):
    pid, status = os.waitpid(child, os.WNOHANG)
    if pid: break
    time.sleep(0.1)
else:
    os.kill(child, 9)
    raise SystemExit("the child waits for a thread that it does not have")
assert os.waitstatus_to_exitcode(status) == 7
thread.join()
""")
