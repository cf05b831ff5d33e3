"""Photographs: through real files with OpenCV, prepared in NumPy, filtered in torch, and back.

The photographs are shipped inside scikit-learn and scikit-image; nothing is downloaded.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import skimage.data
import torch
from sklearn.datasets import load_sample_images
from torch.nn import functional

if TYPE_CHECKING:
    from _border import Border

__all__ = ["Photograph", "filter_photographs", "load_photographs", "save_photographs"]

WIDTH, HEIGHT = 400, 300
RADIUS, SIGMA = 4, 1.5
SHARPENING = 1.5
# ITU-R BT.601, the weights of OpenCV's own RGB to grey.
LUMA = (0.299, 0.587, 0.114)


@dataclass
class Photograph:
    """One photograph on its way; every picture is H x W x C, RGB, uint8 (the edges: H x W)."""

    name: str
    before: np.ndarray
    sharpened: np.ndarray | None = None
    edges: np.ndarray | None = None


def load_photographs(border: Border, folder: Path) -> list[Photograph]:
    """Write the shipped photographs to files, read them back with OpenCV, check them, and fit them to one size."""
    folder.mkdir(exist_ok=True)
    return [Photograph(name, _through_file(border, folder, name, rgb)) for name, rgb in _shipped().items()]


def _shipped() -> dict[str, np.ndarray]:
    """Return the photographs as the libraries hand them out: scikit-learn's are read-only, scikit-image's are not."""
    bunch = load_sample_images()
    named = {Path(name).stem: image for name, image in zip(bunch.filenames, bunch.images, strict=True)}
    return named | {"chelsea": skimage.data.chelsea()}


def _through_file(border: Border, folder: Path, name: str, original: np.ndarray) -> np.ndarray:
    path = folder / f"{name}.png"
    _write(path, original)
    bgr = cv2.imread(str(path))
    tensor = border.to_torch(f"{path.name}: BGR, as OpenCV reads it", bgr)
    blue, green, red = tensor.float().mean(dim=(0, 1)).tolist()
    print(f"  {path.name}: {bgr.shape[1]} x {bgr.shape[0]}, mean colour red {red:.1f}, green {green:.1f}, blue {blue:.1f}")
    _check_same(border, name, original, bgr)
    return _fit(bgr)[..., ::-1]


def _check_same(border: Border, name: str, original: np.ndarray, bgr: np.ndarray) -> None:
    """Check in torch that the file holds the photograph, its colours in the right order (PNG loses nothing)."""
    rgb = bgr[..., ::-1]
    from_file = border.to_torch(f"{name}.png: RGB, by a negative stride", rgb)
    from_package = border.to_torch(f"{name}: as its package hands it out", original)
    if not torch.equal(from_file, from_package):
        raise RuntimeError(f"{name}.png does not hold the photograph that was written to it")


def _fit(image: np.ndarray) -> np.ndarray:
    """Cut the middle out in the shape of the others, by a slice, and scale it to their size."""
    height, width = image.shape[:2]
    high, wide = min(height, width * HEIGHT // WIDTH), min(width, height * WIDTH // HEIGHT)
    top, left = (height - high) // 2, (width - wide) // 2
    middle = image[top : top + high, left : left + wide]
    return cv2.resize(middle, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)


def filter_photographs(border: Border, photographs: list[Photograph], device: str) -> None:
    """Sharpen the photographs and find their edges, all in one batch in torch, on `device`."""
    scaled = np.stack([photograph.before for photograph in photographs]).astype("float32") / 255
    channels_first = scaled.transpose(0, 3, 1, 2)  # a view; torch has strides too, so it crosses as it is
    batch = border.to_torch("photographs: float32, NHWC seen as NCHW", channels_first, device=device)
    sharpened, edges = _sharpen(batch), _edges(batch)
    # Back to channels-last by a view as well, and off the GPU where there is one (device= asks for that by name).
    sharpened = border.to_numpy("sharpened: uint8, NCHW seen as NHWC", _bytes(sharpened).permute(0, 2, 3, 1), device="cpu")
    edges = border.to_numpy("edges: uint8", _bytes(edges)[:, 0], device="cpu")
    for photograph, sharp, edge in zip(photographs, sharpened, edges, strict=True):
        photograph.sharpened, photograph.edges = sharp, edge


def _blur(batch: Any) -> Any:
    """Blur by a Gaussian, first along the rows, then along the columns, each channel by itself."""
    channels = batch.shape[1]
    offsets = torch.arange(-RADIUS, RADIUS + 1, device=batch.device, dtype=batch.dtype)
    weights = torch.softmax(-(offsets**2) / (2 * SIGMA**2), dim=0).expand(channels, 1, 1, -1)
    wide = functional.pad(batch, (RADIUS, RADIUS, RADIUS, RADIUS), mode="reflect")
    return functional.conv2d(functional.conv2d(wide, weights, groups=channels), weights.mT, groups=channels)


def _sharpen(batch: Any) -> Any:
    """Add to the photographs what a blur takes away from them (an unsharp mask)."""
    return (batch + SHARPENING * (batch - _blur(batch))).clamp(0, 1)


def _edges(batch: Any) -> Any:
    """Return how steep the brightness is (Sobel), each photograph scaled so that its steepest percent is white."""
    grey = (_blur(batch) * torch.tensor(LUMA, device=batch.device)[:, None, None]).sum(dim=1, keepdim=True)
    across = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]], device=batch.device)
    slopes = functional.conv2d(functional.pad(grey, (1, 1, 1, 1), mode="replicate"), torch.stack([across, across.mT])[:, None])
    steepness = slopes.square().sum(dim=1, keepdim=True).sqrt()
    return (steepness / steepness.flatten(1).quantile(0.99, dim=1)[:, None, None, None]).clamp(0, 1)


def _bytes(batch: Any) -> Any:
    return (batch * 255).round().to(torch.uint8)


def save_photographs(photographs: list[Photograph], folder: Path) -> None:
    """Write what became of the photographs beside them."""
    for photograph in photographs:
        _write(folder / f"{photograph.name}-sharpened.png", photograph.sharpened)
        _write(folder / f"{photograph.name}-edges.png", photograph.edges)


def _write(path: Path, image: np.ndarray) -> None:
    """Write an RGB or grey image with OpenCV, which wants BGR and plain memory, and may report failure by False."""
    plain = np.ascontiguousarray(image if image.ndim == 2 else image[..., ::-1])
    if not cv2.imwrite(str(path), plain):
        raise OSError(f"OpenCV could not write {path}")
