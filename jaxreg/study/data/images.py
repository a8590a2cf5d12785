"""Reads a folder of images with one subfolder per class."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from jaxreg.study.data.extras import extra
from jaxreg.study.data.raw import Raw
from jaxreg.study.data.wording import enumerate_names

_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm")
_LARGEST = 64


def read_images(folder: Path) -> Raw:
    """Reads the images of a folder, whose files are ``CLASS/IMAGE.png``.

    All images get the most frequent size, scaled down to at most 64 pixels. If all of them are
    gray, they get one channel.

    Args:
      folder: The folder; it contains at least two folders with images.

    Returns:
      The images, uint8 ``[rows, height, width, channels]``, with the names of their folders.

    Raises:
      ValueError: The folder is not as described, or a file is not an image.
      ImportError: Pillow is not installed.
    """
    files = _find_files(folder)
    pillow = extra("PIL.Image", install="pillow")
    pictures = [_open(pillow, path) for path in files]
    size, notes = _common_size(pictures)
    x = np.stack(
        [np.asarray(p if p.size == size else p.resize(size, pillow.BILINEAR)) for p in pictures]
    )
    if (x == x[..., :1]).all():
        x = x[..., :1]
    # The names of folders are classes even if they are numbers.
    names = extra("pandas").Series([path.parent.name for path in files], dtype="category")
    return Raw(x, names, kind="image", notes=notes)


def _find_files(folder: Path) -> list[Path]:
    """Returns the images of all classes, sorted by class and name."""
    inner = sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    files = {each.name: _images_in(each) for each in inner}
    full = {name: found for name, found in files.items() if found}
    if len(full) >= 2 and len(full) == len(files):
        return [path for found in full.values() for path in found]
    rule = "`data` must be a folder with a folder of images per class"
    if _images_in(folder):
        raise ValueError(f"{rule}, got images in {folder} itself; sort them into folders.")
    empty = enumerate_names(name for name in files if name not in full)
    if full and empty:
        raise ValueError(f"{rule}, got no image in {empty} of {folder}; remove that folder.")
    if full:
        raise ValueError(
            f"{rule}, got only {enumerate_names(full)} in {folder}; add a folder for another class."
        )
    deeper = next((each for each in inner if any(p.is_dir() for p in each.iterdir())), None)
    hint = f"; did you mean {deeper}?" if deeper else "."
    raise ValueError(f"{rule}, got no image ({', '.join(_SUFFIXES[:3])}, ...) in {folder}{hint}")


def _images_in(folder: Path) -> list[Path]:
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in _SUFFIXES and not path.name.startswith(".")
    )


def _open(pillow: Any, path: Path) -> Any:
    """Opens an image with 8 bits each for red, green and blue."""
    try:
        with pillow.open(path) as image:
            if image.mode.startswith(("I", "F")):
                raise ValueError(
                    f"`data` must contain 8-bit images, got mode {image.mode} in {path}; convert "
                    "them."
                )
            return image.convert("RGB")
    except OSError as error:
        raise ValueError(f"`data` must contain images, but {path} is not one: {error}.") from error


def _common_size(pictures: list[Any]) -> tuple[tuple[int, int], tuple[str, ...]]:
    """Returns a width and height for all images, and notes on images of another size."""
    sizes = Counter(picture.size for picture in pictures)
    width, height = sizes.most_common(1)[0][0]
    factor = min(1.0, _LARGEST / max(width, height))
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    others = len(pictures) - sizes[size]
    if not others:
        return size, ()
    return size, (
        f"Scaled {others:,} of {len(pictures):,} images to {size[0]} x {size[1]} pixels.",
    )
