"""`python -m tools.count`: made-up checkouts whose numbers are known, and this one."""

import json

import pytest

from tools import count


def write(root, **files):
    """Write modules of a package ``interop`` (dots in the name are ``__``) and return the checkout."""
    for name, text in {"interop/__init__": "", **{f"interop/{name.replace('__', '/')}": text for name, text in files.items()}}.items():
        path = root / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def graph(root, *, functions=False):
    return count.module_graph(count.modules(root / "interop"), functions=functions)


def test_the_longest_chain_is_found(tmp_path):
    root = write(tmp_path, a="import interop.b, interop.d", b="from interop import c", c="from interop.d import x", d="x = 1")
    assert count.chain(graph(root)) == [f"interop.{name}" for name in "abcd"]


def test_imports_inside_functions_count_where_they_are_asked_for(tmp_path):
    root = write(tmp_path, a="def f():\n    from interop import b", b="g = lambda: __import__('os')\nimport interop.c", c="")
    assert count.chain(graph(root)) == ["interop.b", "interop.c"]
    assert count.chain(graph(root, functions=True)) == ["interop.a", "interop.b", "interop.c"]


@pytest.mark.parametrize(
    ("text", "targets"),
    [
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import interop.b\nelse:\n    import interop.c", ["interop.c"]),
        ("import importlib\nimportlib.import_module('interop.b')", ["interop.b"]),
        ("import importlib\nname = 'interop.b'\nimportlib.import_module(name)", []),
        ("import numpy.interop.b", []),
        ("import interop.a", []),  # itself
        ("from interop import b, nothing", ["interop", "interop.b"]),
    ],
)
def test_what_is_an_import(tmp_path, text, targets):
    assert graph(write(tmp_path, a=text, b="", c=""))["interop.a"] == targets


def test_a_cycle_is_found_and_cut(tmp_path):
    root = write(tmp_path, a="import interop.b", b="import interop.c", c="def f():\n    import interop.a")
    assert count.without_cycles(graph(root))[1] == []
    ((*cycle, last),) = count.without_cycles(graph(root, functions=True))[1]
    assert sorted(cycle) == ["interop.a", "interop.b", "interop.c"]
    assert last == cycle[0]
    assert len(count.chain(graph(root, functions=True))) == 3


def test_two_cycles_are_two(tmp_path):
    root = write(tmp_path, a="import interop.b", b="import interop.a", c="import interop.d", d="import interop.c\nimport interop.a")
    assert len(count.without_cycles(graph(root))[1]) == 2


def test_a_long_file_is_found(tmp_path):
    root = write(tmp_path, long="x = 1\n" * (count.LINES + 1), short="x = 1\n" * count.LINES)
    (root / "interop" / "more.c").write_text("int x;\n" * (count.LINES + 2))
    (root / "interop" / "data.toml").write_text("\n" * 1000)
    assert count.long_files(root / "interop") == {"interop/long.py": count.LINES + 1, "interop/more.c": count.LINES + 2}


def test_a_crowded_folder_is_found(tmp_path):
    root = write(tmp_path, **{f"part__m{number}": "" for number in range(3)})
    for name in ("m0.cpython-311.pyc", "fast.so"):
        (root / "interop" / "part" / name).write_text("")
    assert count.crowded(root / "interop", 2) == {"interop/part": 3}
    assert count.crowded(root / "interop", 3) == {}


@pytest.mark.parametrize(
    ("text", "code", "comments"),
    [
        ('"""Doc\n\nstring."""\n\nx = 1  # why\n# and how\n', 1, 2),
        ("def f():\n    '''Doc.'''\n    return '''\n\n    text'''\n", 4, 0),
        ('class A:\n    x: int = 1\n    """Below an attribute."""\n', 2, 0),
        ("import os  # noqa: F401\ny = (\n    1,\n\n    # inside\n)\n", 4, 1),
    ],
)
def test_lines_of_python(tmp_path, text, code, comments):
    path = tmp_path / "a.py"
    path.write_text(text)
    assert count.code_lines(path) == (code, comments)


def test_lines_of_c(tmp_path):
    path = tmp_path / "a.c"
    path.write_text('/* One,\n   two. */\nint x; /* here */\n\n// alone\nchar *s = "/* no comment */";\nchar c = \'"\'; // end\n')
    assert count.code_lines(path) == (3, 5)


def test_a_module_that_a_function_hides_is_found(tmp_path):
    root = write(tmp_path, spell="def spell(): ...", part__inner="", part____init__="def inner(): ...", tree="")
    (root / "interop" / "__init__.py").write_text("from interop.spell import spell\nfrom interop import tree\n")
    (root / "interop" / "part" / "__init__.py").write_text("def inner(): ...\n")
    assert count.named_as_functions(count.modules(root / "interop")) == ["interop.part.inner", "interop.spell"]


def test_an_old_checkout_has_its_numbers_too(tmp_path, capsys):
    root = write(tmp_path, a="import interop.b", b="x = 1")
    (root / "conformance").mkdir()
    (root / "conformance" / "__init__.py").write_text("from conformance import run\n")
    (root / "conformance" / "run.py").write_text("import conformance\n")
    (root / "tests").mkdir()
    (root / "tests" / "test_boundaries.py").write_text("ALLOWED = {'a': set(), 'b': {'a'}}\ndef test_rooms(): ...\ndef helper(): ...\n")
    assert count.main(["--root", str(root), "--json"]) == 0
    numbers = json.loads(capsys.readouterr().out)
    assert numbers["chain"] == ["interop.a", "interop.b"]
    assert len(numbers["cycles"]) == 1
    assert numbers["boundary_rules"] == 3
    assert numbers["code_lines"] == 2


def test_the_numbers_of_this_checkout_are_printed(capsys):
    assert count.main([]) == 0
    printed = capsys.readouterr().out
    numbers = count.measure(count.ROOT)
    assert numbers["boundary_rules"] > 5
    assert numbers["code_lines"] == sum(row["code"] for row in numbers["packages"].values()) > 5000
    for line in (f"rules of the boundary test: {numbers['boundary_rules']}", f"cycles: {len(numbers['cycles'])}"):
        assert line in printed.splitlines()


def test_a_folder_that_is_no_checkout_is_wrong_use(tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        count.main(["--root", str(tmp_path)])
    assert stopped.value.code == 2
    assert "holds no package interop" in capsys.readouterr().err
