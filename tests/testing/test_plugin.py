"""The pytest plugin, run by pytest itself in a process of its own: rows, options, marks, and that nothing is loaded unasked.

A run costs a second or more, so each of them looks at several things.
"""

import textwrap
from importlib.metadata import entry_points

import pytest

pytest_plugins = ["pytester"]

PLUGIN = "interop.testing.plugin"
QUICK = "--interop-backends=numpy,array_api_strict"

TOY = '''
"""A library of another party: NumPy arrays in a class of its own, with two devices and a state."""
import warnings
import numpy as np
from interop import Device
from interop.backends.base import Backend
from interop._model.capabilities import Capabilities
from interop._model.description import CPU, Description

warnings.warn("noise that an import makes must not fail a run with -W error", DeprecationWarning)

class Toy:
    def __init__(self, data, device="cpu", frozen=False):
        self.data, self.device, self.frozen = np.asarray(data), device, frozen

def asarray(obj, *, dtype=None, device=None, copy=None):
    return Toy(np.array(obj, dtype=dtype), device)

def zeros(shape, *, dtype=None, device=None):
    return Toy(np.zeros(shape, dtype), device)

class ToyBackend(Backend):
    capabilities = Capabilities(
        name="toy", title="Toy", dtypes=frozenset({"float32", "float64"}), devices=frozenset({"cpu", "ext"})
    )

    def owns(self, x):
        return isinstance(x, Toy)

    def describe(self, x):
        pointer = x.data.__array_interface__["data"][0]
        device = self.parse_device(x.device)
        return Description(
            backend="toy", type="toy.Toy", shape=x.data.shape, dtype=x.data.dtype.name, device=device, pointer=pointer, readonly=x.frozen
        )

    def parse_device(self, device):
        return Device("ext", 1) if device == "tin" else super().parse_device(device)

    def native_device(self, device):
        return "cpu" if device == CPU else "tin"

    def devices(self):
        return ("cpu", "tin")

    def states(self):
        return {"frozen": lambda x: Toy(x.data, x.device, True)}

    def copy(self, x):
        return Toy(x.data.copy(), x.device)

    def cast(self, x, dtype):
        return Toy(x.data.astype(dtype), x.device)

    def transfer(self, x, device, stream):
        return Toy(x.data.copy(), self.native_device(device))

    def host_view(self, x):
        return x.data

    def from_host(self, view):
        return Toy(view)

backend = ToyBackend()
'''


@pytest.fixture
def run(pytester, monkeypatch):
    """Run pytest in the folder of the test, with our plugin, on these files."""
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)

    def go(*options, **files):
        if files:
            pytester.makepyfile(**{name: textwrap.dedent(text) for name, text in files.items()})
        known = any(point.value == PLUGIN for point in entry_points(group="pytest11"))
        plugin = () if known else ("-p", PLUGIN)
        return pytester.runpytest_subprocess(*plugin, "-p", "no:cacheprovider", "--strict-markers", "-W", "error", *options)

    return go


def test_all_that_is_installed_on_all_devices_in_all_states(run):
    result = run(
        "-v",
        test_rows="""
        import numpy as np
        import interop
        from interop.testing import assert_close, assert_no_crossings, assert_source_untouched

        DATA = np.linspace(0, 1, 6).reshape(2, 3)

        def test_row(xp, xp_device):
            x = xp.asarray(DATA)
            seen = interop.describe(x)
            assert seen.backend == xp.interop_row.backend
            assert interop.describe(xp.zeros(2)).device == seen.device
            assert interop.describe(xp.interop_namespace.zeros(2, device=xp_device)).device == seen.device
            with assert_source_untouched(x), assert_no_crossings():
                y = x - xp.mean(x, axis=0)
            assert_close(y, xp.asarray(DATA - DATA.mean(axis=0)))
            assert seen.requires_grad == (xp.interop_row.state == "grad")
        """,
    )
    rows = [
        "numpy",
        "numpy:readonly",
        "torch",
        "torch:grad",
        "jax",
        "array_api_strict",
        "array_api_strict:device1",
        "array_api_strict:device2",
    ]
    assert not result.parseoutcomes().get("failed")
    result.stdout.fnmatch_lines([f"*::test_row[[]{row}[]] PASSED*" for row in rows])
    [message] = [line for line in result.outlines if line.startswith("xp: ")]
    assert set(rows) <= set(message.removeprefix("xp: ").split(", "))


def test_without_xp_nothing_is_loaded_and_nothing_is_said(run):
    result = run(
        "-v",
        "--interop-backends=torch",
        test_plain="""
        import sys
        import pytest

        LIBRARIES = {"numpy", "torch", "jax", "cupy", "array_api_strict", "array_api_compat", "optree"}

        @pytest.fixture
        def xp():
            return "mine"

        def test_own_fixture(xp):
            assert xp == "mine"

        @pytest.mark.parametrize("xp", [1, 2])
        def test_own_parameter(xp):
            assert xp in (1, 2)

        @pytest.mark.skip_xp_backends(np_only=True)  # as SciPy's own plugin reads it
        def test_a_mark_of_others():
            assert not LIBRARIES & set(sys.modules)
        """,
    )
    result.assert_outcomes(passed=4)
    assert not [line for line in result.outlines if line.startswith("xp")]


def test_only_what_is_asked_for_is_loaded(run):
    """The negative control: the same check, in a test that asks for `xp`."""
    result = run(
        QUICK,
        test_loaded="""
        import sys

        def test_loaded(xp):
            assert {"numpy", "array_api_strict"} <= set(sys.modules)
            assert not {"torch", "jax", "cupy"} & set(sys.modules)
        """,
    )
    result.assert_outcomes(passed=5)


def test_an_xp_of_the_users_is_left_alone(run):
    result = run(
        "--interop-backends=numpy,array_api_strict:cpu",
        "-v",
        conftest="""
        import pytest

        @pytest.fixture
        def xp():
            return "mine"
        """,
        test_overridden="""
        def test_mine(xp):
            assert xp == "mine"

        class TestRows:
            def test_device(self, xp_device, xp):  # ours is still there for who asks for it
                assert xp == "mine"
        """,
    )
    result.assert_outcomes(passed=1 + 3)
    result.stdout.fnmatch_lines(["*::test_mine PASSED*", "*::test_device[[]numpy[]]*"])


def test_an_xp_that_others_generate_is_not_multiplied(run):
    result = run(
        QUICK,
        test_generated="""
        def pytest_generate_tests(metafunc):
            if "xp" in metafunc.fixturenames and metafunc.function.__name__ != "test_ours":
                metafunc.parametrize("xp", [1, 2])

        def test_theirs(xp):
            assert xp in (1, 2)

        def test_ours(xp):
            assert xp.zeros(2).shape == (2,)
        """,
    )
    result.assert_outcomes(passed=2 + 5)


def test_rows_go_with_parameters_classes_and_fixtures_in_a_fixed_order(run):
    tests = """
    import pytest

    @pytest.fixture
    def data(xp):
        return xp.ones(3)

    @pytest.fixture
    def xp(xp):  # one of the user's that builds on ours
        return xp

    @pytest.mark.parametrize("axis", [0, 1])
    @pytest.mark.parametrize("name", ["a", "b"])
    def test_crossed(xp, axis, name, data):
        assert type(data) is type(xp.zeros(1))

    class TestIt:
        def test_method(self, data):
            pass
    """
    options = ("--interop-backends=array_api_strict:device1,numpy", "--collect-only", "-q")
    first, second = (run(*options, test_order=tests) for _ in range(2))
    rows = ["numpy", "numpy:readonly", "array_api_strict:device1"]
    crossed = [f"test_order.py::test_crossed[{name}-{axis}-{row}]" for name in "ab" for axis in (0, 1) for row in rows]
    expected = crossed + [f"test_order.py::TestIt::test_method[{row}]" for row in rows]
    assert [line for line in first.outlines if "::" in line] == expected
    assert [line for line in second.outlines if "::" in line] == expected


def test_marks_on_functions_classes_modules_and_parameters(run):
    result = run(
        QUICK,
        "-rsx",
        test_function="""
        import pytest

        @pytest.mark.skip_xp_backends("numpy:readonly", "jax", reason="it writes")
        @pytest.mark.xfail_xp_backends("array_api_strict:device1", "torch:cuda:3", reason="no such device there", raises=ZeroDivisionError)
        def test_function(xp):
            if xp.interop_row.device == "device1":
                1 / 0
            xp.zeros(2)[0] = 1

        @pytest.mark.skip_xp_backends("array_api_strict", reason="the class")
        class TestClass:
            def test_method(self, xp):
                assert xp.interop_row.backend == "numpy"

        @pytest.mark.parametrize("n", [1, pytest.param(2, marks=pytest.mark.skip_xp_backends("numpy", reason="the parameter"))])
        def test_parameter(xp, n):
            assert n == 1 or xp.interop_row.backend != "numpy"
        """,
        test_module="""
        import pytest

        pytestmark = pytest.mark.xfail_xp_backends("numpy:plain", reason="the module", strict=False)

        def test_heals(xp):
            pass
        """,
    )
    # Rows: numpy, numpy:readonly, strict, strict:device1, strict:device2.
    result.assert_outcomes(passed=3 + 2 + 5 + 3 + 4, skipped=1 + 3 + 2, xfailed=1, xpassed=1)
    result.stdout.fnmatch_lines(["SKIPPED*it writes", "SKIPPED*the class", "SKIPPED*the parameter", "XFAIL*no such device there"])


def test_an_expected_failure_that_heals_or_fails_otherwise_fails(run):
    result = run(
        "--interop-backends=numpy:plain",
        test_strict="""
        import pytest

        @pytest.mark.xfail_xp_backends("numpy", reason="it was broken")
        def test_heals(xp):
            pass

        @pytest.mark.xfail_xp_backends("numpy", reason="it divides", raises=ZeroDivisionError)
        def test_other_error(xp):
            raise KeyError

        @pytest.mark.xfail_xp_backends("array_api_strict", reason="not this one")
        def test_other_backend(xp):
            raise KeyError
        """,
    )
    result.assert_outcomes(failed=3)
    result.stdout.fnmatch_lines(["*XPASS(strict)*it was broken"])


SAYS_TOO_LITTLE = {
    "skip_xp_backends('numpy')": "it needs a reason='...'",
    "skip_xp_backends('numpy', reason=' ')": "it needs a reason='...'",
    "xfail_xp_backends(reason='why')": "it needs the names of backends, as in 'torch' or 'numpy:readonly'",
    "skip_xp_backends('nunpy', reason='why')": "'nunpy' is not a backend; did you mean 'numpy'? Known: *",
    "xfail_xp_backends('numpy:writable', reason='why')": "'numpy:writable' names no row: 'writable' is not a state or a device of numpy*",
    "skip_xp_backends('numpy', reason='why', strict=True)": "it takes reason, not strict",
    "xfail_xp_backends('numpy', reason='why', condition=True)": "it takes raises, reason, strict, not condition",
}


def test_marks_that_say_too_little_are_usage_errors_told_at_once(run):
    tests = [f"@pytest.mark.{mark}\ndef test_{n}(xp):\n    pass\n" for n, mark in enumerate(SAYS_TOO_LITTLE)]
    result = run("--interop-backends=numpy", test_mark="\n".join(["import pytest", *tests]))
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    message = [
        f"test_mark.py::test_{n}: pytest.mark.{mark.partition('(')[0]}: {message}"
        for n, (mark, message) in enumerate(SAYS_TOO_LITTLE.items())
    ]
    result.stderr.fnmatch_lines([f"ERROR: {message[0]}", *message[1:]], consecutive=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--interop-backends=nunpy"], "interop backends: 'nunpy' is not a backend; did you mean 'numpy'? Known: numpy, torch*"),
        (["--interop-backends=numpy:grad"], "interop rows: 'numpy:grad' is no row here. There are: numpy, numpy:readonly."),
        (["--interop-backends=numpy", "--interop-devices=cpu,device1"], "interop rows: no row is on 'device1'. There are: numpy, *"),
        ([QUICK, "--interop-devices=device1"], "interop rows: 'numpy' has no row on device1. There are: numpy, *"),
        (["--interop-backends="], "--interop-backends names nothing."),
    ],
)
def test_what_is_asked_for_and_not_there_is_a_usage_error(run, options, message):
    result = run(*options, test_it="def test_it(xp):\n    pass\n")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: {message}"])
    assert "passed" not in result.stdout.str()


def test_in_a_worker_of_xdist_what_is_not_there_fails_the_tests(run):
    """Stands for pytest-xdist, whose workers have this attribute, and cannot end a run with a usage error."""
    result = run(
        "--interop-backends=numpy:grad",
        conftest="def pytest_configure(config):\n    config.workerinput = {}\n",
        test_it="""
        def test_it(xp):
            pass

        def test_other():
            pass
        """,
    )
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*interop rows: 'numpy:grad' is no row here. There are: numpy, numpy:readonly.*"])


def test_the_configuration_file_says_the_same_and_the_option_wins(run, pytester):
    pytester.makefile(
        ".toml", pyproject='[tool.pytest.ini_options]\ninterop_backends = "numpy, array_api_strict"\ninterop_devices = ["cpu"]\n'
    )
    tests = "def test_it(xp):\n    pass\n"
    assert "xp: numpy, numpy:readonly, array_api_strict" in run("--strict-config", test_it=tests).outlines
    assert "xp: array_api_strict:device2" in run("--interop-backends=array_api_strict", "--interop-devices=device2", test_it=tests).outlines


def test_asked_for_too_late_it_says_how_to_ask(run):
    result = run(
        "--interop-backends=numpy",
        test_late="""
        def test_late(request):
            request.getfixturevalue("xp")
        """,
    )
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*the xp fixture has to be an argument of the test*"])


def test_help_and_marks_are_listed(run):
    result = run("--help")
    result.stdout.fnmatch_lines(["*--interop-backends=NAMES*", "*--interop-devices=NAMES*", "*interop_backends*"])
    result = run("--markers")
    result.stdout.fnmatch_lines(["@pytest.mark.skip_xp_backends(*names, reason)*", "@pytest.mark.xfail_xp_backends(*"])


@pytest.fixture
def toy(pytester, monkeypatch):
    """Install a third party's library for the processes that the test starts."""
    pytester.makepyfile(**{"site/toy": TOY})
    info = pytester.mkdir("site/toy_interop-1.0.dist-info")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-interop\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[interop.backends]\ntoy = toy:backend\n")
    monkeypatch.setenv("PYTHONPATH", str(info.parent))


USES_TOY = """
    import numpy as np, pytest
    from interop.testing import assert_close, assert_equal

    @pytest.mark.skip_xp_backends("toy:tin:frozen", reason="the third party's own")
    def test_it(xp, xp_device):
        x = xp.asarray(np.arange(3.0))
        assert (type(x).__name__, x.device, x.frozen) == ("Toy", xp_device, xp.interop_row.state == "frozen")
        assert_equal(x, xp.asarray([0.0, 1.0, 2.0]))
        with pytest.raises(AssertionError, match="1 of 3 values"):
            assert_close(x, xp.asarray([0.0, 1.0, 2.5]))
        assert xp.zeros(2).device == xp_device
    """


def test_a_third_partys_backend_joins_by_itself(toy, run):
    result = run("--interop-backends=toy", test_toy=USES_TOY)
    result.assert_outcomes(passed=3, skipped=1)
    assert "xp: toy, toy:frozen, toy:tin, toy:tin:frozen" in result.outlines


def test_without_its_entry_point_it_is_unknown(run):
    """The negative control."""
    result = run("--interop-backends=toy", test_toy=USES_TOY)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: interop backends: 'toy' is not a backend*"])
