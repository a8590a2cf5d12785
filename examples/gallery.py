"""Every augmentation of images and of series, before and after, on real data.

Draws the pictures and writes the page that lists the calls. The text of each call is generated from
the call that ran.

    python -m examples.gallery [folder]
"""

import inspect
import io
import pathlib
import sys
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt
from PIL import Image
from sklearn.datasets import load_digits, load_sample_images

from jaxreg import augment
from jaxreg.augment import series

KEY = jax.random.key(3)
COLUMNS = 5
LARGEST = 380_000
Call = partial

GEOMETRY: tuple[Call, ...] = (
    partial(augment.flip_left_right),
    partial(augment.flip_up_down),
    partial(augment.rot90, turns=1),
    partial(augment.rotate, degrees=15.0),
    partial(augment.translate, x=20.0, y=10.0, border=augment.borders.wrap),
    partial(augment.scale, x=0.8, y=0.8, border=augment.borders.reflect),
    partial(augment.shear, x=0.3, y=0.0),
    partial(augment.crop, top=20, left=60, size=(60, 90)),
    partial(augment.center_crop, size=(60, 90)),
    partial(augment.resize, size=(30, 45)),
    partial(augment.resized_crop, top=20, left=60, height=40, width=60, size=(90, 135)),
    partial(augment.pad, width=15, border=augment.borders.edge),
    partial(augment.random_affine, degrees=20.0, shift=10.0, scale=0.2, shear=0.2),
    partial(augment.random_perspective, distortion=0.5),
    partial(augment.random_elastic, strength=30.0, sigma=4.0, radius=8),
    partial(augment.random_crop, size=(60, 90)),
    partial(augment.random_resized_crop, size=(90, 135)),
    partial(augment.random_rotate, degrees=30.0),
    partial(augment.random_flip_left_right, probability=0.5),
)
COLOR: tuple[Call, ...] = (
    partial(augment.brightness, factor=1.5),
    partial(augment.contrast, factor=1.8),
    partial(augment.saturation, factor=2.0),
    partial(augment.hue, shift=0.3),
    partial(augment.gamma, gamma=2.0),
    partial(augment.grayscale),
    partial(augment.invert),
    partial(augment.random_brightness, amount=0.5),
    partial(augment.color_jitter, brightness=1.3, contrast=0.7, saturation=1.5, hue=0.1),
)
LEVELS: tuple[Call, ...] = (
    partial(augment.solarize, threshold=0.5),
    partial(augment.posterize, bits=2),
    partial(augment.equalize),
    partial(augment.autocontrast),
    partial(augment.normalize, mean=0.4, stddev=0.8),
    partial(augment.sharpness, factor=4.0),
    partial(augment.gaussian_blur, sigma=2.0, radius=5),
)
ERASE: tuple[Call, ...] = (
    partial(augment.cutout, row=45, column=60, height=40, width=40),
    partial(augment.grid_mask, spacing=24.0, share=0.5),
    partial(augment.random_cutout, height=40, width=40, fill=0.5),
    partial(augment.random_erasing, probability=1.0),
    partial(augment.random_grid_mask, spacing=(12.0, 30.0), share=0.4),
)
POLICIES: tuple[Call, ...] = (
    partial(augment.rand_augment, magnitude=12),
    partial(augment.trivial_augment),
    partial(augment.auto_augment),
    partial(augment.aug_mix, severity=5.0),
)
SERIES: tuple[Call, ...] = (
    partial(series.random_jitter, stddev=0.05),
    partial(series.scaling, factor=1.4),
    partial(series.random_scaling, stddev=0.3),
    partial(series.random_magnitude_warp, stddev=0.3, knots=6),
    partial(series.random_time_warp, stddev=0.5, knots=6),
    partial(series.window_slice, start=30.0, share=0.5),
    partial(series.random_window_slice, share=0.7),
    partial(series.window_warp, start=40.0, share=0.2, factor=3.0),
    partial(series.random_window_warp, share=0.3),
    partial(series.random_permutation, segments=4),
    partial(series.random_permutation, segments=4, cuts=series.random_cuts),
)
SPECTROGRAM: tuple[Call, ...] = (
    partial(series.random_spec_augment, policy=series.SpecPolicy(20, 10, 2, 15, 2, 0.2)),
    partial(series.random_spec_augment, policy=series.SpecPolicy(0, 20, 1, 0, 0)),
    partial(series.random_spec_augment, policy=series.SpecPolicy(30, 0, 0, 0, 0)),
)


def draws(call: Call) -> bool:
    """Returns whether a call takes a key."""
    return "key" in inspect.signature(call.func).parameters


def words(call: Call, data: str) -> str:
    """Writes a call as code."""
    given = [f"{name}={_value(value)}" for name, value in call.keywords.items()]
    key = ["key"] if draws(call) else []
    return f"{_module(call.func)}.{call.func.__name__}({', '.join([*key, data, *given])})"


def _value(value) -> str:
    if callable(value):
        return f"{_module(value)}.{value.__name__}"
    return f"series.{value}" if isinstance(value, series.SpecPolicy) else str(value)


def _module(function: Callable) -> str:
    if ".series" in function.__module__:
        return "series"
    return "augment.borders" if ".borders" in function.__module__ else "augment"


def apply_each(calls: tuple[Call, ...], x: jax.Array) -> list[np.ndarray]:
    """Applies each call to one image or series, with its own key if it is random."""
    keys = jax.random.split(KEY, len(calls))
    return [
        np.asarray(jax.jit(call)(key, x) if draws(call) else jax.jit(call)(x))
        for call, key in zip(calls, keys, strict=True)
    ]


def load() -> tuple[jax.Array, jax.Array]:
    """Loads the two pictures of scikit-learn, 90 by 135, in ``[0, 1]``."""
    pictures = jnp.stack([jnp.asarray(picture) for picture in load_sample_images().images])
    china, flower = augment.resize(augment.to_float(pictures), size=(90, 135))
    return china, flower


def save(figure: plt.Figure, path: pathlib.Path) -> None:
    """Writes a figure, with fewer colors if the file would be large."""
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=80)
    plt.close(figure)
    image = Image.open(buffer).convert("RGB")
    image.save(path, optimize=True)
    if path.stat().st_size > LARGEST:
        image.quantize(256).save(path, optimize=True)


def panels(number: int, height: float):
    """Makes axes for pictures, without frames."""
    rows = -(-number // COLUMNS)
    size = (2.4 * COLUMNS, height * rows)
    figure, axes = plt.subplots(rows, COLUMNS, figsize=size, layout="constrained", squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    return figure, axes.flat


def titles(calls: tuple[Call, ...]) -> list[str]:
    return ["before", *(call.func.__name__ for call in calls)]


def draw_pictures(calls: tuple[Call, ...], before: jax.Array, path: pathlib.Path) -> None:
    """Draws a picture before, and after each call."""
    figure, axes = panels(len(calls) + 1, 1.9)
    images = [before, *apply_each(calls, before)]
    for axis, image, name in zip(axes, images, titles(calls), strict=False):
        axis.imshow(np.clip(image, 0, 1))
        axis.set_title(name, fontsize=10)
    save(figure, path)


def draw_series(calls: tuple[Call, ...], before: jax.Array, path: pathlib.Path) -> None:
    """Draws a series after each call, over the original."""
    figure, axes = panels(len(calls), 1.7)
    for axis, call, after in zip(axes, calls, apply_each(calls, before), strict=False):
        axis.plot(before[:, 0], color="0.75", linewidth=1)
        axis.plot(after[:, 0], linewidth=1)
        axis.set_title(call.func.__name__, fontsize=10)
    save(figure, path)


def draw_spectrograms(calls: tuple[Call, ...], before: jax.Array, path: pathlib.Path) -> None:
    """Draws an array of time and frequency before, and after each call."""
    figure, axes = panels(len(calls) + 1, 1.9)
    arrays = [before, *apply_each(calls, before)]
    for axis, array, name in zip(axes, arrays, titles(calls), strict=False):
        axis.imshow(array.T, cmap="magma")
        axis.set_title(name, fontsize=10)
    save(figure, path)


def draw_mixing(images: jax.Array, digits: jax.Array, path: pathlib.Path) -> None:
    """Draws two pictures and five digits before, and after mixing."""
    figure, axes = panels(4 * COLUMNS, 1.7)
    labels = jnp.arange(2)
    mixed = [
        augment.mixup(images, labels, images[::-1], labels[::-1], share=0.6, num_classes=2),
        augment.cutmix(
            images, labels, images[::-1], labels[::-1], share=0.6, center=(45, 70), num_classes=2
        ),
    ]
    first = [*images, *(m.x[0] for m in mixed)]
    names = ["china", "flower", "mixup", "cutmix"]
    tens = jnp.arange(COLUMNS)
    options = {"alpha": 1.0, "num_classes": COLUMNS, "partners": augment.partners.reverse}
    rows = [
        digits,
        augment.random_mixup(KEY, digits, tens, **options).x,
        augment.random_cutmix(KEY, digits, tens, **options).x,
    ]
    shown = [*zip(first, names, strict=True), (None, "")]
    for name, row in zip(("before", "random_mixup", "random_cutmix"), rows, strict=True):
        shown += [(image, name) for image in row]
    for axis, (image, name) in zip(axes, shown, strict=True):
        if image is not None:
            axis.imshow(np.clip(image, 0, 1), cmap="gray")
            axis.set_title(name, fontsize=10)
    save(figure, path)


def page(groups: dict[str, tuple[str, tuple[str, ...]]]) -> str:
    """Writes the text of the page."""
    lines = [
        "# Gallery",
        "",
        "Every augmentation before and after, made by `python -m examples.gallery`. A function",
        "`random_x` draws the arguments of the function `x` for each example; for most of these",
        "pairs the picture shows `x`. The pictures are scikit-learn's, and the series is the",
        "brightness along a row of one of them.",
    ]
    for name, (about, calls) in groups.items():
        lines += ["", f"## {name}", "", about, "", f"![{name}](gallery/{name.lower()}.png)", ""]
        lines += [f"- `{call}`" for call in calls]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Draws all groups and writes the page."""
    mpl.use("Agg")
    folder = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "docs")
    pictures = folder / "gallery"
    pictures.mkdir(parents=True, exist_ok=True)
    china, flower = load()
    draw_pictures(GEOMETRY, china, pictures / "geometry.png")
    draw_pictures(COLOR, flower, pictures / "color.png")
    draw_pictures(LEVELS, flower, pictures / "levels.png")
    draw_pictures(ERASE, flower, pictures / "erasing.png")
    draw_pictures(POLICIES, china, pictures / "policies.png")
    digits = jnp.float32(load_digits().images[:COLUMNS, ..., None] / 16)
    draw_mixing(jnp.stack([china, flower]), digits, pictures / "mixing.png")
    gray = jnp.mean(china, axis=-1)
    draw_series(SERIES, gray[55][:, None], pictures / "series.png")
    draw_spectrograms(SPECTROGRAM, gray.T, pictures / "spectrograms.png")
    image = partial(words, data="image")
    one = partial(words, data="x")
    mixing = ("augment.mixup(x, labels, other, other_labels, share=0.6, num_classes=2)",
              "augment.cutmix(image, labels, other, other_labels, share=0.6, center=(45, 70), "
              "num_classes=2)",
              "augment.random_mixup(key, x, labels, alpha=1.0, num_classes=5)",
              "augment.random_cutmix(key, image, labels, alpha=1.0, num_classes=5)")  # fmt: skip
    text = page(
        {
            "Geometry": ("In the order of the calls below.", tuple(map(image, GEOMETRY))),
            "Color": ("For values in [0, 1].", tuple(map(image, COLOR))),
            "Levels": ("Levels and filters.", tuple(map(image, LEVELS))),
            "Erasing": ("Parts replaced by a value.", tuple(map(image, ERASE))),
            "Policies": ("Random sequences of operations.", tuple(map(image, POLICIES))),
            "Mixing": ("Images and their labels, mixed in the same shares.", mixing),
            "Series": ("The original in gray.", tuple(map(one, SERIES))),
            "Spectrograms": (
                "SpecAugment, on the brightness of a picture instead of a spectrogram.",
                tuple(map(one, SPECTROGRAM)),
            ),
        }
    )
    (folder / "gallery.md").write_text(text)
    for path in sorted(pictures.glob("*.png")):
        print(f"{path}: {path.stat().st_size / 1024:.0f} KB")
    print(f"page: {folder / 'gallery.md'}")


if __name__ == "__main__":
    main()
