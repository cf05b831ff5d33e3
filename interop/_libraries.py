"""The libraries that interop knows by name: the one list, a line for each. Imports none of them."""

from __future__ import annotations

from typing import NamedTuple


class Library(NamedTuple):
    """What is known of a library without importing it.

    Attributes
    ----------
    install : str
        The command that installs it.
    type : str
        The class of its plain arrays.
    devices : tuple of str
        The types of device that they live on, the usual one first.
    readonly : bool
        Whether none of its arrays can be written to.
    packages : tuple of str
        Further top-level packages that its types come from.
    aliases : tuple of str
        What people call it besides; a target is not named so, and the error says how it is.
    words : tuple of (str, str)
        What it calls dtypes by a word that means something else elsewhere, and the names of those dtypes.
    """

    install: str
    type: str
    devices: tuple[str, ...]
    readonly: bool = False
    packages: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    words: tuple[tuple[str, str], ...] = ()


# "byte" and "char" are the names of casts, and all of them of classes of tensors (torch.FloatTensor).
_TORCH = {"float": "float32", "double": "float64", "half": "float16", "int": "int32", "long": "int64", "short": "int16"}
_TORCH |= {"byte": "uint8", "char": "int8", "bool": "bool"}

BUILTIN: dict[str, Library] = {
    "numpy": Library("pip install numpy", "numpy.ndarray", ("cpu",), aliases=("np", "ndarray")),
    "torch": Library(
        "pip install 'array-interop[torch]'",
        "torch.Tensor",
        ("cpu", "cuda", "mps", "xpu", "meta"),
        aliases=("pt", "th", "pytorch", "tensor"),
        words=(*_TORCH.items(), *((f"{word.capitalize()}Tensor", name) for word, name in _TORCH.items())),
    ),
    "cupy": Library("pip install 'array-interop[cupy13x]'", "cupy.ndarray", ("cuda",), aliases=("cp",)),
    "jax": Library(
        "pip install 'array-interop[jax]'",
        "jax.Array",
        ("cpu", "cuda", "rocm"),
        readonly=True,
        packages=("jaxlib",),
        aliases=("jnp", "jax.numpy"),
    ),
    "array_api_strict": Library("pip install 'array-interop[strict]'", "array_api_strict.Array", ("cpu", "ext"), aliases=("strict",)),
}
"""Each built-in library by its name, which is also that of its package and of its folder in `interop.backends`."""
