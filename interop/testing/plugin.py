"""The pytest plugin: the `xp` fixture over the rows of this machine, its options and its marks.

Written so that it costs nothing to those who do not use it: a library is imported when the first test that asks for `xp` is
collected. The rows hang on a fixture of their own (`_interop_row`), and not on `xp`, so that an `xp` of the user's, overridden
in a conftest, is left alone by pytest itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from interop.testing.rows import Row, Survey, backends_of, check_backend, check_name, choose, survey

if TYPE_CHECKING:
    from interop.testing.namespace import RowNamespace

__all__ = [
    "pytest_addoption",
    "pytest_collection_modifyitems",
    "pytest_configure",
    "pytest_generate_tests",
    "pytest_report_collectionfinish",
    "xp",
    "xp_device",
]

_ROW = "_interop_row"
_MARKS = {
    "skip_xp_backends": "(*names, reason): the `xp` fixture leaves these backends or rows out, as in ('jax', 'numpy:readonly', reason='...').",
    "xfail_xp_backends": "(*names, reason, strict=True, raises=None): the test is expected to fail on these backends or rows.",
}
_HELP = {
    "backends": "backends or rows that the `xp` fixture runs on, as in numpy,torch:cuda,array_api_strict:device1 (default: all that are there)",
    "devices": "devices that the `xp` fixture runs on, as in cpu,cuda,device1 (default: all that are there)",
}


class _Run:
    """The rows of a test run; found when the first test asks for them."""

    def __init__(self, config: pytest.Config) -> None:
        self.asked = {what: _asked(config, what) for what in _HELP}
        self.found: Survey | None = None
        self.rows: list[Row] = []
        self.problem = ""  # reported after the collection: while tests are generated it would be reported once for each file

    def look(self) -> list[Row]:
        """Return the rows, none if something that was asked for is not there."""
        if self.found is None:
            backends, devices = self.asked["backends"], self.asked["devices"]
            self.found = survey(backends_of(backends))
            try:
                self.rows = choose(self.found, backends, devices)
            except ValueError as error:
                self.problem = f"interop rows: {error}"
        return self.rows


_RUN = pytest.StashKey[_Run]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options, and the same for the configuration file."""
    group = parser.getgroup("interop", "array libraries for the xp fixture")
    for what, text in _HELP.items():
        group.addoption(f"--interop-{what}", metavar="NAMES", help=text)
        parser.addini(f"interop_{what}", f"the same as --interop-{what}, which wins", type="args", default=[])


def _asked(config: pytest.Config, what: str) -> list[str] | None:
    """Return the names that were given, None for all; UsageError if there is no name in them."""
    given = config.getoption(f"--interop-{what}")
    texts: list[str] = [given] if given is not None else config.getini(f"interop_{what}")
    names = [name.strip() for text in texts for name in text.split(",") if name.strip()]
    if given is not None and not names:
        raise pytest.UsageError(f"--interop-{what} names nothing.")
    return list(dict.fromkeys(names)) or None


def pytest_configure(config: pytest.Config) -> None:
    """Register the marks; refuse names of backends that are not there."""
    for name, text in _MARKS.items():
        config.addinivalue_line("markers", name + text)
    run = config.stash[_RUN] = _Run(config)
    for name in run.asked["backends"] or ():
        try:
            check_backend(name)
        except ValueError as error:
            raise pytest.UsageError(f"interop backends: {error}") from error


@pytest.hookimpl(trylast=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that asks for `xp` once for each row."""
    if _ROW in metafunc.fixturenames and not _is_given(metafunc):
        rows = metafunc.config.stash[_RUN].look()
        if rows:
            metafunc.parametrize(_ROW, rows, ids=[row.id for row in rows], indirect=True)


def _is_given(metafunc: pytest.Metafunc) -> bool:
    """Return whether a hook of the user's gave values to `xp`: then ours is not called, but pytest still lists what it asks for."""
    # A private name of pytest's, which this must not depend on in everybody's test runs.
    return any("xp" in call.params for call in getattr(metafunc, "_calls", ()))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Turn our marks into pytest's, for the tests that run on our rows."""
    run = config.stash[_RUN]
    problems = dict.fromkeys([run.problem] if run.problem else [])
    for item in items:
        row = item.callspec.params.get(_ROW) if hasattr(item, "callspec") else None
        if isinstance(row, Row):
            for name in _MARKS:
                for mark in item.iter_markers(name):
                    _apply(item, row, mark, run, problems)
    run.problem = "\n".join(problems)
    # A worker of pytest-xdist that ends here is an internal error without a text: there every test that asks for xp fails instead.
    if problems and not hasattr(config, "workerinput"):
        raise pytest.UsageError(run.problem)


def _apply(item: pytest.Item, row: Row, mark: pytest.Mark, run: _Run, problems: dict[str, None]) -> None:
    problem = _problem(mark, run)
    if problem:
        name = f"{item.nodeid.partition('[')[0]}: pytest.mark.{mark.name}"
        problems[f"{name}: {problem}"] = None  # once, not for each row
    elif any(row.matches(one) for one in mark.args):
        make = pytest.mark.skip(**mark.kwargs) if mark.name.startswith("skip") else pytest.mark.xfail(**{"strict": True, **mark.kwargs})
        item.add_marker(make)


def _problem(mark: pytest.Mark, run: _Run) -> str:
    """Return what is wrong with a mark of ours, in words; empty if it is well."""
    known = {"reason"} if mark.name.startswith("skip") else {"reason", "strict", "raises"}
    if not isinstance(mark.kwargs.get("reason"), str) or not mark.kwargs["reason"].strip():
        return "it needs a reason='...'"
    if wrong := set(mark.kwargs) - known:
        return f"it takes {', '.join(sorted(known))}, not {', '.join(sorted(wrong))}"
    if not mark.args or not all(isinstance(name, str) for name in mark.args):
        return "it needs the names of backends, as in 'torch' or 'numpy:readonly'"
    try:
        for name in mark.args:
            check_name(name, {row.backend for row in run.rows})
    except ValueError as error:
        return str(error)
    return ""


def pytest_report_collectionfinish(config: pytest.Config) -> list[str]:
    """Say which rows are tested, and which backends are not there; nothing where no test asks for `xp`."""
    run = config.stash[_RUN]
    if run.found is None or run.problem:
        return []
    missing = [f"xp, not here: {why}" for why in run.found.missing.values()]
    return [f"xp: {', '.join(row.id for row in run.rows)}", *missing]


@pytest.fixture
def _interop_row(request: pytest.FixtureRequest) -> Row:
    """Return the row that a test runs on."""
    if problem := request.config.stash[_RUN].problem:
        pytest.fail(problem, pytrace=False)
    if not hasattr(request, "param"):
        pytest.fail("the xp fixture has to be an argument of the test, or of a fixture that it uses: its rows are known at collection only")
    row: Row = request.param
    return row


@pytest.fixture
def xp(_interop_row: Row) -> RowNamespace:
    """Return the array API namespace of an installed library; the test runs once for each library, device and state.

    Its creation functions make arrays of that row; see `interop.testing.RowNamespace`.
    """
    from interop.testing.namespace import RowNamespace

    return RowNamespace(_interop_row)


@pytest.fixture
def xp_device(_interop_row: Row) -> Any:
    """Return the device of the row, as the library's own functions take it for ``device=``."""
    from interop.testing.namespace import RowNamespace

    return RowNamespace(_interop_row).interop_device
