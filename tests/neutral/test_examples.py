"""Each algorithm of `examples.neutral` runs from one source on every library, stays there, and finds what SciPy,
scikit-learn and OpenCV find; and a slip in any of them would be noticed: each check is also held to sources with one slip.
"""

import ast
import importlib
import inspect
import re
import runpy
import types
from functools import partial
from pathlib import Path

import array_api_strict
import numpy as np
import optree
import pytest
import torch
from array_api_compat import array_namespace, device

import interop
from examples.neutral import _data, _runner, gp, kalman, kmeans, nms, pca, welch
from interop.testing import assert_no_crossings
from tests.neutral import data as known


def strict(name, data):
    """Data on a device of array-api-strict that lacks 64-bit dtypes, or is another than the usual one."""
    lacking = np.asarray(data).dtype == "float64" and name.startswith("no_")
    return array_api_strict.asarray(
        np.array(data), dtype=array_api_strict.float32 if lacking else None, device=array_api_strict.Device(name)
    )


def on(name):
    return types.SimpleNamespace(asarray=partial(strict, name))


NUMPY = types.SimpleNamespace(asarray=np.array)


@pytest.fixture
def stays_home():
    """A context in which nothing may cross to another library or device; entered around every call of a port."""
    return assert_no_crossings


# What every call of an algorithm is held to, besides its values.


@pytest.fixture
def call(stays_home):
    return partial(checked_call, stays_home)


def checked_call(stays_home, function, *arguments, constant=(), **keywords):
    """Call a port; its results are of the arguments' library, device, precision and graph, its arguments as before."""
    arrays = [leaf for leaf in optree.tree_leaves(arguments) if hasattr(leaf, "dtype")]
    before = [values(array) for array in arrays]
    with stays_home():
        result = function(*arguments, **keywords)
    for array, data in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(values(array), data)
    named = result._asdict() if hasattr(result, "_asdict") else {"result": result}
    for name, array in named.items():
        assert_at_home(array, arrays[0], constant=name in constant)
    return result


def assert_at_home(array, x, constant=False):
    assert array_namespace(array) is array_namespace(x)
    assert device(array) == device(x)
    if "float" in str(array.dtype):
        assert array.dtype == x.dtype
        assert constant or getattr(array, "requires_grad", False) == getattr(x, "requires_grad", False)


def values(array):
    """A copy of an array's values in NumPy, whatever its state and device."""
    array = getattr(array, "_array", array)
    return np.asarray(array.detach() if isinstance(array, torch.Tensor) else array).copy()


def assert_close(result, expected, roundings=500):
    """Equal up to so many roundings of the result's precision, by the largest of the expected values."""
    found, expected = values(result), np.asarray(expected)
    assert found.shape == expected.shape
    tolerance = roundings * np.finfo(found.dtype).eps * np.abs(expected).max()
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)


def assert_equal(result, expected):
    np.testing.assert_array_equal(values(result), expected)


# The algorithms, each against a library's own.


def check_pca(module, xp, call, data, count):
    x, reference, plain, white = known.principal(data, count)
    x = xp.asarray(x)
    components = call(module.fit, x, count)
    assert_close(components.mean, reference.mean_)
    assert_close(components.directions, reference.components_)
    assert_close(components.variances, reference.explained_variance_)
    assert_close(call(module.transform, x, components), plain)
    assert_close(call(module.transform, x, components, whiten=True), white)


def check_kmeans(module, xp, call, data):
    reference = known.clusters(data)
    clusters = call(module.kmeans, *map(xp.asarray, known.CLUSTERINGS[data]()))
    assert_equal(clusters.labels, reference.labels_)
    assert_close(clusters.centres, reference.cluster_centers_)
    assert_close(clusters.inertia, reference.inertia_)


def check_welch(module, xp, call, length, overlap, channels):
    x = _data.eeg()[channels]
    frequencies, density = known.spectrum(x, length, overlap)
    spectrum = call(module.welch, xp.asarray(x), _data.EEG_RATE, length=length, overlap=overlap, constant=["frequencies"])
    assert_close(spectrum.frequencies, frequencies)
    assert_close(spectrum.density, density)


def check_kalman(module, xp, call):
    y = _data.google()
    seen = xp.asarray(y)
    model = call(module.local_trend, seen, **known.MODEL, constant=module.Model._fields)
    forward = call(module.filtered, seen, model, *map(xp.asarray, map(np.asarray, known.PRIOR)))
    both = call(module.smoothed, forward, model)
    means, covariances = known.least_squares(y)
    assert_close(forward.covariances[-1, :, :], known.steady_covariance())
    for beliefs in (forward, both):  # the last state has no later observation, so both know the same of it
        assert_close(beliefs.means[-1, :], means[-1])
        assert_close(beliefs.covariances[-1, :, :], covariances[-1])
    assert_close(both.means, means)
    assert_close(both.covariances, covariances)


def check_nms(module, xp, call, overlap, least):
    boxes, scores = _data.coins()
    expected = known.suppressed(boxes, scores, overlap, least)
    kept = call(module.nms, xp.asarray(boxes), xp.asarray(scores), overlap=overlap, least=least)
    assert_equal(kept.indices, expected)
    assert_close(kept.boxes, boxes[expected])
    assert_close(kept.scores, scores[expected])


def check_gp(module, xp, call, amplitude, length, noise):
    x, y, new, _ = _data.diabetes()
    mean, std, log_likelihood = known.regression(x, y, new, amplitude, length, noise)
    found = call(module.predict, *map(xp.asarray, (x, y, new)), module.Kernel(amplitude, length, noise))
    assert_close(found.mean, mean)
    assert_close(found.std, std)
    assert_close(found.log_likelihood, log_likelihood)


CHECKS = {
    "pca-iris": (pca, check_pca, ("iris", 4)),
    "pca-digits": (pca, check_pca, ("digits", 10)),
    **{f"kmeans-{data}": (kmeans, check_kmeans, (data,)) for data in known.CLUSTERINGS},
    "welch-halves": (welch, check_welch, (256, None, slice(None))),
    "welch-three quarters": (welch, check_welch, (100, 75, slice(1, 3))),
    "welch-odd length, one channel": (welch, check_welch, (63, 0, 0)),
    "kalman": (kalman, check_kalman, ()),
    "nms-0.3": (nms, check_nms, (0.3, 0.6)),
    "nms-0.5": (nms, check_nms, (0.5, 0.0)),
    "gp-smooth": (gp, check_gp, (1.0, 0.2, 0.5)),
    "gp-rough": (gp, check_gp, (2.5, 0.08, 0.1)),
}


@pytest.mark.parametrize("name", CHECKS)
def test_one_source_finds_what_the_reference_finds(name, xp, call):
    module, check, details = CHECKS[name]
    check(module, xp, call, *details)


@pytest.mark.parametrize(
    ("name", "place"),
    [
        *[(name, "no_float64") for name in CHECKS],
        *[(name, "no_x64") for name in CHECKS if name.startswith(("welch", "kalman", "gp"))],
    ],
)
def test_no_64_bits_are_needed(name, place, call):
    module, check, details = CHECKS[name]
    check(module, on(place), call, *details)


def test_the_other_algorithms_cannot_be_asked_for_no_64_bits_yet():
    """They ask for positions, which array-api-strict (2.6.1) makes int64 on its own device that has none.

    Compare https://github.com/data-apis/array-api-strict/issues/70. When this fails, they belong into the test above.
    """
    x = strict("no_x64", [3.0, 1.0])
    for function in (array_api_strict.argsort, array_api_strict.argmin, array_api_strict.argmax):
        with pytest.raises(ValueError, match=r"does not support dtype=.*int64"):
            function(x)


@pytest.mark.parametrize(("name", "right", "wrong"), known.SLIPS)
def test_a_slip_would_be_noticed(name, right, wrong, call):
    """The negative control: the same check, on a source with one slip."""
    module, check, details = CHECKS[name]
    with pytest.raises((AssertionError, np.linalg.LinAlgError)):
        check(slipped(module, right, wrong), NUMPY, call, *details)
    check(slipped(module, right, right), NUMPY, call, *details)


def slipped(module, right, wrong):
    """Return a module made of the source with `wrong` in the place of `right`."""
    source = inspect.getsource(module)
    assert source.count(right) == 1, "a slip must change exactly one place"
    copy = types.ModuleType(module.__name__)
    exec(compile(source.replace(right, wrong), module.__file__, "exec"), copy.__dict__)
    return copy


@pytest.mark.parametrize(
    ("array", "x"),
    [
        (np.ones(2), torch.ones(2)),
        (torch.ones(2), torch.ones(2, requires_grad=True)),
        (torch.ones(2), torch.ones(2, dtype=torch.float64)),
        (strict("device2", [1.0]), strict("device1", [1.0])),
    ],
    ids=["library", "graph", "precision", "device"],
)
def test_leaving_home_would_be_noticed(array, x):
    assert_at_home(x, x)
    with pytest.raises(AssertionError):
        assert_at_home(array, x)


def test_a_crossing_would_be_noticed(stays_home):
    x = torch.ones(2)
    with pytest.raises(AssertionError):
        checked_call(stays_home, lambda x: interop.to_torch(interop.to_numpy(x) + 1), x)
    p = torch.ones(2, requires_grad=True)
    with pytest.raises(AssertionError):
        checked_call(stays_home, lambda x: x * float(x.detach().numpy().sum()), p)
    checked_call(stays_home, lambda x: x * 2, p)


def test_a_change_of_the_source_would_be_noticed(stays_home):
    x = np.ones(2)
    with pytest.raises(AssertionError):
        checked_call(stays_home, lambda x: np.multiply(x, 2, out=x), x)


# Gradients: of a number made of everything that an algorithm returns, for one of its arguments.


def torch_gradient(function, data):
    x = torch.tensor(data, requires_grad=True)
    function(torch.tensor, x).backward()
    return x.grad.numpy()


@pytest.mark.parametrize("name", known.GRADIENTS)
def test_the_gradient_arrives_and_is_the_slope(name):
    function, load = known.GRADIENTS[name]
    data = load()
    gradient = torch_gradient(function, data)
    assert np.isfinite(gradient).all()
    direction = np.cos(np.arange(data.size)).reshape(data.shape)
    step = 1e-6 * np.abs(data).max()
    ahead, behind = (function(np.array, data + sign * step * direction) for sign in (1, -1))
    slope = (ahead - behind) / (2 * step)
    assert slope != 0
    np.testing.assert_allclose((gradient * direction).sum(), slope, rtol=1e-5)


@pytest.mark.parametrize("name", known.GRADIENTS)
def test_jax_finds_the_same_gradient(name):
    import jax  # here and below: each takes a part of a second, and the other tests do without

    function, load = known.GRADIENTS[name]
    data = load()
    with jax.enable_x64(True):
        gradient = jax.grad(partial(function, jax.numpy.asarray))(jax.numpy.asarray(data))
    assert_close(gradient, torch_gradient(function, data), roundings=1e6)


# What is asserted beside the values.


def test_libraries_are_not_mixed():
    components = pca.fit(known.iris(), 2)
    with pytest.raises(interop.MixedBackendsError):
        pca.transform(torch.tensor(known.iris()), components)


def test_nothing_is_kept_of_no_boxes(xp, call):
    kept = call(nms.nms, xp.asarray(np.zeros((0, 4))), xp.asarray(np.zeros(0)))
    assert [tuple(array.shape) for array in kept] == [(0,), (0, 4), (0,)]


def test_of_equal_scores_the_earlier_box_wins_and_boxes_without_area_stay(xp, call):
    boxes = np.array([[0, 0, 4, 4], [1, 0, 5, 4], [9, 9, 9, 9], [9, 9, 9, 9]], dtype="float64")
    kept = call(nms.nms, xp.asarray(boxes), xp.asarray(np.array([1.0, 1.0, 0.5, 0.5])))
    assert_equal(kept.indices, [0, 2, 3])


def test_a_centre_that_loses_its_only_point_to_an_empty_one_joins_the_largest(xp, call):
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    points, centres = np.array([[0.0], [1.0], [9.0]]), np.array([[0.5], [7.0], [50.0]])
    with pytest.warns(ConvergenceWarning, match="Number of distinct clusters"):  # two are in one place
        reference = KMeans(3, init=centres, n_init=1, algorithm="lloyd", tol=0, max_iter=1).fit(points)
    clusters = call(kmeans.kmeans, xp.asarray(points), xp.asarray(centres), rounds=1)
    assert_equal(clusters.centres, reference.cluster_centers_)
    assert_equal(reference.cluster_centers_, [[0.5], [0.5], [9.0]])


ALGORITHMS = [pca, kmeans, welch, kalman, nms, gp]


NEUTRAL = {"__future__", "array_api_compat", "collections", "examples", "interop", "math", "typing"}


def imported(module):
    """The packages that a source imports, wherever in it."""
    nodes = list(ast.walk(ast.parse(inspect.getsource(module))))
    plain = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    return {name.partition(".")[0] for name in [*plain, *(node.module for node in nodes if isinstance(node, ast.ImportFrom))]}


@pytest.mark.parametrize("module", ALGORITHMS, ids=lambda module: module.__name__)
def test_an_algorithm_knows_no_library(module):
    assert imported(module) <= NEUTRAL


@pytest.fixture(scope="module", name="numpy_only")
def what_is_written_for_numpy():
    """Return the example of functions of scikit-learn, SciPy and OpenCV, which takes two seconds to import."""
    return importlib.import_module("examples.neutral.numpy_only")


def test_the_check_sees_a_library(numpy_only):
    """The negative control."""
    assert imported(numpy_only) - NEUTRAL == {"cv2", "numpy", "scipy", "sklearn"}


# Functions that exist for NumPy only.


def refusal(x):
    """What blocks the conversion of an array where nothing is permitted; None if it can be lent to NumPy."""
    if getattr(x, "requires_grad", False):
        return interop.GradError
    return interop.TransferError if "'device" in str(device(x)) or "'no_" in str(device(x)) else None


def check_refused(function, x):
    expected = refusal(x)
    if expected is not None:
        with pytest.raises(expected):
            function(x)
    return expected is not None


def test_scipy_numbers_the_coins(xp, numpy_only):
    from scipy import ndimage

    x = xp.asarray(_data.photograph())
    if check_refused(numpy_only.bright_spots, x):
        return
    labels, count = numpy_only.bright_spots(x)
    direct, direct_count = ndimage.label(ndimage.gaussian_filter(values(x), 2.0) > 0.4)
    assert (type(count), count) == (int, direct_count) == (int, 24)
    assert_at_home(labels, x)
    assert values(labels).dtype == direct.dtype
    assert_equal(labels, direct)


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_opencv_scales_every_librarys_picture(xp, dtype, numpy_only):
    import cv2

    x = xp.asarray((_data.photograph() * 255).astype(dtype))
    small = numpy_only.thumbnail(x, 96)
    assert_at_home(small, x, constant=True)
    assert not getattr(small, "requires_grad", False)
    assert values(small).dtype == dtype
    assert_equal(small, cv2.resize(values(x), (96, 76), interpolation=cv2.INTER_AREA))


@pytest.fixture(scope="module")
def reader(numpy_only):
    return numpy_only.DigitReader()


def test_scikit_learn_reads_every_librarys_digits(xp, reader):
    x = xp.asarray(known.digits()[1000:1100].astype("float32"))
    if getattr(x, "requires_grad", False):
        assert check_refused(reader.read, x)
        return
    read = reader.read(x)
    assert set(read) == {"labels", "votes", "method"}
    assert read["method"] == "5 nearest neighbours"
    for array in (read["labels"], read["votes"]):
        assert_at_home(array, x)
    assert_equal(read["labels"], reader.estimator.predict(values(x)))
    assert_equal(read["votes"], reader.estimator.predict_proba(values(x)).max(axis=1).astype("float32"))


# The programs.


@pytest.fixture
def numpy_alone(monkeypatch):
    monkeypatch.setattr(_runner, "PLACES", {"numpy": "cpu"})


@pytest.mark.parametrize("name", [*(module.__name__ for module in ALGORITHMS), "examples.neutral.numpy_only"])
def test_each_example_is_a_program(name, numpy_alone, capsys):
    module = importlib.import_module(name)
    runpy.run_path(module.__file__, run_name="__main__")
    title, line = capsys.readouterr().out.splitlines()
    assert title == module.__doc__.splitlines()[0]
    assert re.fullmatch(r"  numpy +\d+\.\d\d s  .*\d.*", line)


@pytest.mark.slow
def test_all_of_them_find_the_same_in_every_library(capsys, numpy_only):
    runpy.run_path(str(Path(pca.__file__).parent / "__main__.py"), run_name="__main__")
    table, _, missing = capsys.readouterr().out.partition("\n\n")
    rows = [re.split(r" {2,}", line, maxsplit=3) for line in table.splitlines()[2:]]
    present = {library.name for library in _runner.libraries() if library.asarray}
    assert present >= {"numpy", "torch", "jax", "array_api_strict"}
    names = {module.__name__.rpartition(".")[2] for module in [*ALGORITHMS, numpy_only]}
    assert {(example, library) for example, library, *_ in rows} == {(name, library) for name in names for library in present}
    assert len({(example, found) for example, _, _, found in rows if not found.startswith("refused")}) == len(names)
    assert all(library in missing for library in set(_runner.PLACES) - present)


def test_a_library_that_cannot_be_used_is_left_out_with_its_reason(monkeypatch, capsys):
    def convert(x, to, **keywords):
        if to == "torch":
            raise interop.BackendNotInstalledError("torch is not installed here.", hint="Install it.")
        return x

    monkeypatch.setattr(interop, "convert", convert)
    monkeypatch.setattr(_runner, "PLACES", {"numpy": "cpu", "torch": "cpu"})
    _runner.show("A title\nand more", lambda asarray: "found")
    title, found, missing = capsys.readouterr().out.splitlines()
    assert title == "A title"
    assert found.endswith("found")
    assert missing == "  torch             left out: torch is not installed here."


def test_a_refusal_is_what_was_found(numpy_alone):
    def report(asarray):
        raise interop.TransferError("to_numpy(x) cannot convert it:\n  - [transfer] it lives elsewhere")

    assert [line.found for line in _runner.lines(report)] == ["refused: [transfer] it lives elsewhere"]
