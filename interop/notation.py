"""A description in one short text: ``torch:bfloat16[64,64]@cuda:0+grad``; read by `parse`, written by `format_description`.

For the command line, for tables of cases and for bug reports: an array that does not have to exist. A text says
what differs from a plain array, so every word of it is a row of one table (`interop._vocabulary`), and the rest (strides, bytes, type)
is filled in as the backends would describe such an array; `tests/test_notation.py` compares the two.

Whether the library has such a dtype is not checked here: that would take the library.
"""

from __future__ import annotations

from typing import Any

from interop._model.description import CPU, Description, Device
from interop._model.dtypes import DTYPES, dtype_name
from interop._model.spelling import nearest, unknown
from interop._vocabulary import FLAGS, LIBRARIES, OPAQUE, QUANTIZED, Flag

__all__ = ["format_description", "parse"]

_FORM = "LIBRARY:DTYPE[SHAPE]@DEVICE+FLAG, as in 'torch:float32[2,3]@cuda:0+grad'; DEVICE and FLAGs may be left out"


def parse(text: str) -> Description:
    """Return the description that a short text stands for.

    Parameters
    ----------
    text : str
        ``LIBRARY:DTYPE[SHAPE]``, then optionally ``@DEVICE``, any number of ``+FLAG`` (see `interop._vocabulary.FLAGS`), and
        ``+strides=1920,3,-1`` in elements. ``[]`` is a 0-d array, ``?`` an extent that is no number (nested, fake).

    Returns
    -------
    Description
        As the library's backend would describe such an array; without an address.

    Raises
    ------
    ValueError
        For a text that describes no possible array; names the nearest right word.

    Examples
    --------
    >>> print(parse("torch:complex64[8]@cuda:1+conj+grad"))
    torch.Tensor complex64[8] on cuda:1, pending conj, requires grad
    >>> parse("numpy:uint8[480,640,3]+strides=1920,3,-1").strides
    (1920, 3, -1)
    >>> parse("torch:float32[2]+gard")
    Traceback (most recent call last):
    ...
    ValueError: 'torch:float32[2]+gard': '+gard' is not a flag; did you mean 'grad'?
    """
    try:
        return _parse(text)
    except ValueError as error:
        raise ValueError(f"{text!r}: {error}") from None


def _parse(text: str) -> Description:
    head, *words = text.replace(" ", "").split("+")
    head, _, place = head.partition("@")
    name, colon, rest = head.partition(":")
    spelled, bracket, inside = rest.partition("[")
    if not (colon and bracket and inside.endswith("]")):
        raise ValueError(f"write {_FORM}; [] is a 0-d array.")
    if name not in LIBRARIES:
        raise ValueError(unknown(name, "library", LIBRARIES))
    dtype = _dtype(spelled)
    steps = [word.removeprefix("strides=") for word in words if word.startswith("strides=")]
    flags = {word for word in words if not word.startswith("strides=")}
    # What the dtype or the device implies may be left out.
    flags |= {"quantized"} if dtype in QUANTIZED else set()
    flags |= {"meta"} if place == "meta" else set()
    shape = tuple(None if extent == "?" else _number(extent, "extent") for extent in inside[:-1].split(",") if extent)
    device = _device(name, place)
    library = LIBRARIES[name]
    plain = Description(
        backend=name, type=library.type, shape=shape, dtype=dtype, device=device, strides=_c_order(shape), readonly=library.readonly
    )
    flagged = _with_flags(plain, flags)
    return _finished(_with_strides(flagged, steps[-1]) if steps else flagged)


def _dtype(text: str) -> str:
    # The prefix tells torch's own dtypes from NumPy's of the same name; for the quantized ones it may be left out.
    own = f"torch.{text}" if f"torch.{text}" in QUANTIZED else text
    return own if own in OPAQUE else dtype_name(text)


def _number(text: str, what: str) -> int:
    digits = text.removeprefix("-") if what == "stride" else text
    if not digits.isdecimal():
        raise ValueError(f"{text!r} is not a number; write each {what} as one, as in {'[2,3]' if what == 'extent' else 'strides=3,-1'}.")
    return int(text)


def _device(name: str, place: str) -> Device:
    known = LIBRARIES[name].devices
    device = Device.parse(place or known[0])
    if device.type not in known:
        raise ValueError(f"{name} arrays do not live on {device}; write @{known[0]}, or leave it out.")
    return device


def _c_order(shape: tuple[int | None, ...]) -> tuple[int, ...]:
    strides, step = [], 1
    for extent in reversed(shape):
        strides.append(step)
        step *= max(extent or 0, 1)
    return tuple(reversed(strides))


def _with_strides(plain: Description, text: str) -> Description:
    strides = tuple(_number(step, "stride") for step in text.split(",") if step)
    if len(strides) != len(plain.shape):
        raise ValueError(f"strides= needs one number for each axis, in elements: {len(plain.shape)}, not {len(strides)}.")
    if plain.strides is None:
        raise ValueError("strides= contradicts a flag: that array has no strides. Leave one of the two out.")
    return plain.replace(strides=strides)


def _with_flags(plain: Description, words: set[str]) -> Description:
    for word in words:
        if word not in FLAGS:
            raise ValueError(f"'+{word}' is not a flag{nearest(word, [*FLAGS, 'strides='])}")
    changes: dict[str, Any] = {}
    set_by: dict[str, str] = {}  # which word changed a field
    pending: tuple[str, ...] = ()
    for word in (word for word in FLAGS if word in words):  # in the table's order, not the text's
        flag = FLAGS[word]
        _check_place(plain, word, flag)
        new = dict(flag.changes)
        pending += (new.pop("pending"),) if "pending" in new else ()
        if clash := [set_by[field] for field in new if field in changes and changes[field] != new[field]]:
            raise ValueError(f"'+{clash[0]}' and '+{word}' contradict each other; leave one of them out.")
        changes |= new | ({"type": flag.types[plain.backend]} if plain.backend in flag.types else {})
        set_by |= dict.fromkeys(new, word)
    if changes.get("device") and plain.device not in (CPU, changes["device"]):
        raise ValueError(f"'+meta' contradicts @{plain.device}; leave one of them out.")
    made = plain.replace(pending=pending, **changes)
    for word in words:  # last, since '+meta' says a device
        if FLAGS[word].devices and made.device.type not in FLAGS[word].devices:
            raise ValueError(f"'+{word}' memory is that of @{FLAGS[word].devices[0]}, not of {made.device}; write one of the two.")
    return made


def _check_place(plain: Description, word: str, flag: Flag) -> None:
    kind = "quantized" if plain.dtype in QUANTIZED else DTYPES[plain.dtype].kind if plain.dtype in DTYPES else "object"
    if plain.backend not in flag.libraries:
        raise ValueError(f"'+{word}' is for {' and '.join(flag.libraries)} arrays only, not for {plain.backend}'s; leave it out.")
    if flag.kinds and kind not in flag.kinds:
        example = "quint8" if "quantized" in flag.kinds else "complex64" if "complex" in flag.kinds[:1] else "float32"
        raise ValueError(f"'+{word}' needs a {' or '.join(flag.kinds)} dtype, as {example}; this is {plain.dtype}.")


def _finished(made: Description) -> Description:
    """Fill in what follows from the rest: bytes, and the scalar's type."""
    if made.scalar:
        if made.shape:
            raise ValueError("'+scalar' is a NumPy scalar, which has no axes; write [] for the shape.")
        own = DTYPES[made.dtype].bits >= 8 and "_" not in made.dtype and made.dtype not in ("bfloat16", "complex32")
        made = made.replace(type=f"{'numpy' if own else 'ml_dtypes'}.{made.dtype}")
    if made.layout == "nested":  # the lengths within are many numbers, not one
        made = made.replace(shape=(*made.shape[:1], *(None,) * len(made.shape[1:])))
    elif None in made.shape and made.no_data is None:
        raise ValueError("'?' is an extent of nested and fake tensors; write a number, or +nested or +fake.")
    return made.replace(nbytes=made.size * (OPAQUE.get(made.dtype) or DTYPES[made.dtype].itemsize))


def format_description(description: Description) -> str:
    """Return the text that `parse` reads as this description.

    Not in it are the address, the name of a subclass, the backend's advice, and that a jagged tensor is less fixed than a nested one.
    Raises ValueError for what the notation has no word for (a wrapper subclass, a packed dtype).

    >>> format_description(parse("torch:float32[2,3]@cpu+meta+grad"))
    'torch:float32[2,3]@meta+grad'
    """
    text = _written(description)
    try:
        read = parse(text).replace(**{name: getattr(description, name) for name in ("type", "pointer", "advice", "fixed")})
    except ValueError as error:
        raise ValueError(f"no notation for this: {error}") from None
    if read != description:
        raise ValueError(f"no notation for all of this: {description}; {text!r} is the nearest.")
    return text


def _written(description: Description) -> str:
    x = description
    extents = ",".join("?" if extent is None else str(extent) for extent in x.shape)
    place = "" if x.device.type == LIBRARIES[x.backend].devices[0] and not x.device.index else f"@{x.device}"
    words = [word for word, flag in FLAGS.items() if _applies(x, flag) and word not in ("meta", "quantized")]
    if x.strides is not None and x.strides != _c_order(x.shape):
        words.append(f"strides={','.join(map(str, x.strides))}")
    return "".join([f"{x.backend}:{x.dtype}[{extents}]{place}", *(f"+{word}" for word in words)])


def _applies(x: Description, flag: Flag) -> bool:
    if x.backend not in flag.libraries:
        return False
    if flag.changes == {"strides": None}:  # strides that are not whole elements; no other flag explains their absence
        return x.strides is None
    return all(value in x.pending if name == "pending" else getattr(x, name) == value for name, value in flag.changes.items())
