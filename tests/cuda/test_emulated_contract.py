"""Each function that the emulated library exports has a test of what CUDA promises (tests/emulated/contract) and a sentence that says it."""

import ast
import re
from pathlib import Path

import pytest

from tests.emulated import building
from tests.emulated.contract.cuda import ONLY_EMULATED

CONTRACT = Path(building.__file__).with_name("contract")
FOR_THE_TESTS = {
    "emulated_calls": "the list of calls is the emulation's own",
    "emulated_reachable": "the host cannot reach a GPU's memory by another address",
    "emulated_launch": "the work is Python's; CUDA's is cudaLaunchHostFunc",
    "emulated_dropped": "it is of emulated_launch",
    "emulated_sleep": "a delay; on a GPU a kernel takes its time (cuLaunchKernel)",
    "emulated_hold": "on a GPU a host function that waits does the same (contract/cuda.py, held)",
    "emulated_open": "it is of emulated_hold",
    "emulated_break": "it ends the context, with the tests that come after it",
    "emulated_break_behind": "it ends the context, with the tests that come after it",
    "emulated_finish": "it is for the end of the process",
}
"""Functions that are none of CUDA's: why they cannot be tested on a GPU. They are tested in tests/emulated/test_device.py and test_processes.py."""

PAGES = {"cuda": "CUDA Runtime API", "__cuda": "CUDA Runtime API", "cu": "CUDA Driver API", "nvml": "NVML API"}
_FUNCTION = re.compile(r"^(?:EXPORT |AS_THE_RUNTIME\(|extern \"C\" .*?\b(?=emulated_))(\w+)[(,]")


@pytest.fixture(scope="module", name="exported")
def exported_functions(tmp_path_factory):
    """Return the names of the functions that the emulated library exports."""
    if (reason := building.why_not()) is not None:
        pytest.skip(reason)
    from elftools.elf.elffile import ELFFile  # here: `make gpu` collects this file where only the libraries are installed

    with building.build(tmp_path_factory.mktemp("library")).open("rb") as file:
        symbols = list(ELFFile(file).get_section_by_name(".dynsym").iter_symbols())
    defined = {one.name for one in symbols if one["st_info"]["type"] == "STT_FUNC" and one["st_shndx"] != "SHN_UNDEF"}
    return {name for name in defined if not name.startswith("_Z")} - {"_init", "_fini"}  # _Z: templates of the C++ library


def named_by_tests(source):
    """Return the functions that the decorator `of` names in a file of tests: by themselves, or as a tuple of the module (`of(*NAMES)`)."""
    tree = ast.parse(source)
    tuples = {
        ast.unparse(node.targets[0]): node.value.elts
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Tuple)
    }
    calls = [
        one for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) for one in node.decorator_list if isinstance(one, ast.Call)
    ]
    given = [argument for one in calls if ast.unparse(one.func) == "of" for argument in one.args]
    names = [name for one in given for name in (tuples[ast.unparse(one.value)] if isinstance(one, ast.Starred) else [one])]
    return {name.value for name in names}


def sentences(source):
    """Return each exported function of a source with the comment that stands right above it, empty for none."""
    found, comment = {}, []
    for line in source.splitlines():
        if match := _FUNCTION.match(line):
            text = " ".join(comment).removeprefix("/* ") if comment and comment[-1].endswith("*/") else ""
            found[match[1]] = text.removesuffix(" */").replace(" * ", " ")
        comment = [*comment, line] if comment and not comment[-1].endswith("*/") else [line] if line.startswith("/*") else []
    return found


def undescribed(source):
    """Return the exported functions without a sentence that names the page of CUDA's documentation."""

    def begins(name):
        prefix = re.match("__cuda|cuda(?=[A-Z])|cu(?=[A-Z])|nvml", name)
        page = name.removeprefix("__") if name.startswith("__") else re.sub(r"_v\d$", "", name) if name.startswith("cu") else name
        if prefix is None:
            return ("For the tests, not CUDA: ",)
        return tuple(f"{PAGES[prefix[0]]}, {one}: " for one in (page, name))

    return sorted(name for name, text in sentences(source).items() if not text.startswith(begins(name)) or not text.endswith("."))


def test_each_function_has_a_test(exported):
    names = set().union(*(named_by_tests(path.read_text()) for path in CONTRACT.glob("test_*.py")))
    assert names == exported - FOR_THE_TESTS.keys()
    assert FOR_THE_TESTS.keys() <= exported
    assert ONLY_EMULATED.keys() <= names


def test_each_function_has_a_sentence(exported):
    sources = {path.name: path.read_text() for path in building.SOURCES.glob("*.cpp")}
    assert {name for text in sources.values() for name in sentences(text)} == exported
    assert {file: names for file, text in sources.items() if (names := undescribed(text))} == {}


# What these tests would miss.


def test_functions_are_found_in_the_decorators():
    source = 'BOTH = ("cuB", "cudaB")\n@of("cudaA", *BOTH)\ndef test_x(): ...\n@other("cudaC")\ndef test_y(): ...'
    assert named_by_tests(source) == {"cudaA", "cuB", "cudaB"}


@pytest.mark.parametrize(
    ("above", "is_described"),
    [
        ("/* CUDA Runtime API, cudaFree: frees memory. */", True),
        ("/* CUDA Runtime API, cudaFree: frees memory\n * of the device. */", True),
        ("/* CUDA Runtime API, cudaMalloc: frees memory. */", False),
        ("/* Frees memory. */", False),
        ("/* CUDA Runtime API, cudaFree: frees memory. */\n", False),
        ("", False),
    ],
)
def test_a_function_without_its_sentence_is_found(above, is_described):
    assert undescribed(f"{above}\nEXPORT cudaFree(void *pointer) {{") == ([] if is_described else ["cudaFree"])
