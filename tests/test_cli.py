"""The command line: exit status, wrong use, JSON, and the page in docs/ that shows it."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

import interop
from interop._model.policy import FIELDS, PRESETS
from interop._vocabulary import FLAGS
from interop.cli import COMMANDS, cli
from interop.notation import parse

PAGE = (Path(__file__).parent.parent / "docs" / "doctor.md").read_text(encoding="utf-8")


def run(line):
    return CliRunner().invoke(cli, shlex.split(line), prog_name="interop")


# Wrong use, and the way in.


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("docter", "'docter' is not a command; did you mean 'doctor'?"),
        ("explain", "Missing argument 'SPEC'"),
        ("explain 'numpy:float32[2]'", "Missing argument 'TARGET'"),
        ("explain 'numpy:flaot32[2]' torch", "did you mean 'float32'?"),
        ("explain 'numpy:float32[2]+gard' torch", "did you mean 'grad'?"),
        ("explain 'numpy:float32[2]' troch", "'troch' is not a backend; did you mean 'torch'?"),
        ("explain 'numpy:float32[2]' torch --device cdua", "did you mean 'cuda'?"),
        ("explain 'numpy:float32[2]' torch --dtype flaot32", "did you mean 'float32'?"),
        ("explain 'numpy:float32[2]' torch --grad detatch", "'detatch' is not one of 'error', 'detach'"),
        ("explain 'numpy:float32[2]' torch --policy lax", "'lax' is not one of 'strict', 'default', 'coerce'"),
        ("explain 'numpy:float32[2]' torch --grda detach", "--grda"),
        ("doctor --jsno", "--jsno"),
    ],
)
def test_wrong_use_is_status_2_and_says_what_is_right(line, answer):
    done = run(line)
    assert done.exit_code == 2
    assert answer in done.output


def test_version():
    done = run("--version")
    assert (done.exit_code, done.output) == (0, f"interop, version {interop.__version__}\n")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_file_and_help(name):
    assert name in run("--help").output
    done = run(f"{name} --help")
    assert done.exit_code == 0
    assert "--json" in done.output


def test_every_file_is_a_command():
    folder = Path(interop.__file__).parent / "cli"
    assert {path.stem for path in folder.glob("[!_]*.py")} == set(COMMANDS)


def test_help_imports_no_array_library():
    program = "import sys\nfrom interop.cli import cli\ntry: cli(sys.argv[1:])\nexcept SystemExit: print('torch' in sys.modules)"
    for words, loaded in ((["--help"], "False"), (["explain", "torch:float32[2]", "numpy"], "True")):
        done = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True, check=True)
        assert done.stdout.splitlines()[-1] == loaded


@pytest.mark.parametrize("missing", ["click", "rich", "packaging"])
def test_without_the_extra_one_line_says_what_to_install(tmp_path, missing):
    (tmp_path / f"{missing}.py").write_text(f"raise ModuleNotFoundError('No module named {missing}', name={missing!r})")
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-m", "interop", "doctor"], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == f"interop: the command line needs {missing}, which is not installed; write: pip install 'array-interop[cli]'\n"


def test_a_broken_extra_is_not_called_missing(tmp_path):
    (tmp_path / "click.py").write_text("import no_such_module_of_click")
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-m", "interop"], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "no_such_module_of_click" in done.stderr


# How it ends.

COMMANDS_WITH_OUTPUT = ["doctor", "doctor --json", "explain torch:float32[2] numpy", "explain torch:float32[2] numpy --json", "--help"]


def ended(line, **streams):
    return subprocess.run([sys.executable, "-m", "interop", *line.split()], stderr=subprocess.PIPE, text=True, check=False, **streams)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the device of a full disk is Linux's")
@pytest.mark.parametrize("line", COMMANDS_WITH_OUTPUT)
def test_output_that_cannot_be_written_is_status_2_and_one_line(line):
    with Path("/dev/full").open("w") as out:
        done = ended(line, stdout=out)
    assert (done.returncode, done.stderr) == (2, "Error: the output cannot be written: No space left on device\n")


@pytest.mark.parametrize("line", COMMANDS_WITH_OUTPUT)
def test_a_pipe_without_a_reader_is_no_finding(line):
    reading, writing = os.pipe()
    os.close(reading)
    done = ended(line, stdout=writing)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")


INTERRUPTED = """
import os, signal, sys
import click
from interop.cli._process import run

@click.command()
def command():
    click.echo("begun")
    {what}

sys.exit(run(command, "command"))
"""


@pytest.mark.parametrize(
    ("what", "status", "printed"),
    [
        ("os.kill(os.getpid(), signal.SIGINT)", 130, "begun\n"),
        ("raise KeyboardInterrupt", 130, "begun\n"),
        ("raise click.exceptions.Exit(1)", 1, "begun\n"),
        ("raise click.UsageError('no')", 2, "begun\n"),
        ("return 'a value that is no status'", 0, "begun\n"),
        ("import atexit; atexit.register(print, 'late')", 0, "begun\n"),  # a library's last words
        ("os.write(1, b'raw')", 0, "begun\n"),
        ("import ctypes; ctypes.CDLL(None).puts(b'buffered in C')", 0, "begun\n"),
        ("click.echo('late')", 0, "begun\nlate\n"),  # the negative control
    ],
)
def test_every_end_has_its_status_and_only_the_command_has_the_output(what, status, printed):
    done = subprocess.run([sys.executable, "-c", INTERRUPTED.format(what=what)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (status, printed)
    assert "Traceback" not in done.stderr


def test_output_in_an_encoding_that_lacks_a_character_is_written_all_the_same():
    code = INTERRUPTED.format(what="click.echo('≠ crash ✖')")
    environment = {**os.environ, "PYTHONIOENCODING": "latin-1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment)
    assert (done.returncode, done.stdout) == (0, "begun\n\\u2260 crash \\u2716\n")


# explain


@pytest.mark.parametrize(
    ("line", "status", "says"),
    [
        ("explain 'numpy:float32[2,3]' torch", 0, "shares memory"),
        ("explain 'cupy:float32[3]@cuda:1' torch", 0, "float32 on cuda:1: shares memory"),
        ("explain 'numpy:float32[2,3]' torch --device cuda:1", 0, "torch float32 on cuda:1: 24 bytes copied"),
        ("explain 'numpy:float32[2,3]' torch --dtype float16", 0, "torch float16 on cpu: 12 bytes copied"),
        ("explain 'numpy:float32[2,3]' torch --copy true", 0, "24 bytes copied"),
        ("explain 'numpy:float32[2,3]+readonly' torch --copy false", 1, "[readonly]"),
        ("explain 'torch:float32[2]@cuda+grad' numpy", 1, "On this command line: --grad detach --transfer allow"),
        ("explain 'torch:float32[2]@cuda+grad' numpy --policy coerce", 0, "8 bytes copied"),
        ("explain 'torch:float32[2]+fake' numpy", 1, "[no-data]"),
        ("explain 'dlpack:float32[2]+null' numpy", 1, "[no-data]"),
        ("explain 'numpy:float32[2]+strides=-1' torch --policy strict", 1, "On this command line: --copy true"),
        ("explain 'numpy:float32[2]+strides=-1' torch --policy strict --copy none", 0, "8 bytes copied"),
    ],
)
def test_explain_says_whether_it_will_convert(line, status, says):
    done = run(line)
    assert says in done.output
    assert done.exit_code == status
    assert json.loads(run(f"{line} --json").output)["ok"] is (status == 0)


def test_the_line_that_a_refusal_proposes_succeeds():
    line = "explain 'torch:complex64[2]@cuda:1+conj+grad+sparse_coo' numpy --copy false"
    proposed = run(line).output.splitlines()[-1].partition("On this command line: ")[2]
    assert proposed
    assert run(f"{line} {proposed}").exit_code == 0


def test_a_final_refusal_proposes_no_line():
    assert "command line" not in run("explain 'torch:float32[2]@meta' numpy").output


def test_json_is_the_plan():
    done = run("explain 'torch:float32[2]@cuda+grad' numpy --grad detach --json")
    plan = interop.explain(parse("torch:float32[2]@cuda+grad"), "numpy", grad="detach")
    assert json.loads(done.output) == json.loads(json.dumps({"ok": False, **plan.as_dict()}))


def test_there_is_an_option_for_each_permission_and_value():
    shown = " ".join(run("explain --help").output.split())
    for name, field in FIELDS.items():
        values = "|".join("none" if value is None else str(value).lower() for value in field.values)
        assert f"--{name} [{values}]" in shown
        for value in values.split("|"):
            assert run(f"explain 'numpy:float32[2]' torch --{name} {value}").exit_code == 0
    assert f"--policy [{'|'.join(PRESETS)}]" in shown


# The page.


def examples():
    """Return the commands that the page shows, each with its output."""
    blocks = re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL)
    return [tuple(part.split("\n", 1)) for block in blocks for part in block.split("$ ")[1:]]


@pytest.mark.parametrize(("line", "output"), examples())
def test_the_page_shows_what_is_printed(line, output):
    assert run(line.removeprefix("interop ")).output == output


def test_the_page_has_examples():
    assert len(examples()) >= 2


def test_the_page_lists_every_flag_and_permission():
    assert set(re.findall(r"`\+([a-z_]+)`", PAGE)) == set(FLAGS)
    assert set(FIELDS) | {"policy", "device", "dtype", "json"} == set(re.findall(r"`--(\w+)`", PAGE))
