"""Time of a common training pipeline and of RandAugment, compared with peers.

:func:`pipeline` is meant to be copied: a random resized crop, a horizontal flip, a rotation and
color jitter, drawn for each image. It resamples once and changes the colors in one pass.

The floor is one multiplication, which reads and writes every pixel once. ``kornia, the same for
all`` computes only two operations for a whole batch, where ours draws two for each image. Products
of matrices are for TPUs; gathers are the default.
"""

import importlib
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.measuring import Row, Work, if_installed, rows_against, shortest
from benchmarks.peers import FLOOR
from jaxreg import augment

SIZES = ((256, 32), (32, 224))
DEGREES = 15.0
STRENGTHS = {"brightness": 0.2, "contrast": 0.2, "saturation": 0.2, "hue": 0.1}


@jax.jit
def pipeline(key: jax.Array, images: jax.Array) -> jax.Array:
    """Augments float images ``[batch, height, width, 3]`` in ``[0, 1]``."""
    crop, flip, turn, color = jax.random.split(key, 4)
    size = images.shape[1:3]
    matrix = augment.matrices.chain(
        augment.matrices.random_window(crop, images, size=size),
        augment.matrices.random_reflection(flip, images, probability=0.5),
        augment.matrices.random_rotation(turn, images, degrees=DEGREES),
    )
    return augment.random_color_jitter(color, augment.affine(images, matrix), **STRENGTHS)


def measure(*, small: bool) -> list[Row]:
    """Measures the time of one batch at two sizes."""
    sizes = ((4, 16),) if small else SIZES
    turns = 2 if small else 15
    return [row for batch, side in sizes for row in rows(batch, side, turns)]


def rows(batch: int, side: int, turns: int) -> list[Row]:
    """Measures the pipeline, its two ways to sample, and RandAugment at one size."""
    return [
        *_pipeline_rows(batch, side, turns),
        *_sampler_rows(batch, side, turns),
        *_rand_augment_rows(batch, side, turns),
    ]


def _pipeline_rows(batch: int, side: int, turns: int) -> list[Row]:
    images = jax.random.uniform(jax.random.key(1), (batch, side, side, 3))
    works = {
        "jaxreg": _with_key(pipeline, images),
        FLOOR: partial(_multiply, images),
        **if_installed("augmax", lambda: {"augmax": _with_key(_augmax(side), images)}),
        **if_installed("dm_pix", lambda: {"dm-pix": _with_key(_dm_pix, images)}),
        **_if_on_cpu(lambda: {"kornia": _kornia(images)}),
    }
    times = shortest(works, turns=turns)
    label = f"crop, flip, rotation, jitter, {batch} images of {side} x {side}"
    return rows_against(label, times, floor=FLOOR)


def _sampler_rows(batch: int, side: int, turns: int) -> list[Row]:
    """Compares sampling by matrix products with gathers; the device decides which is faster."""
    images = jax.random.uniform(jax.random.key(1), (batch, side, side, 3))

    def work(sample: Callable[..., jax.Array]) -> Work:
        @jax.jit
        def rotate(key: jax.Array, images: jax.Array) -> jax.Array:
            matrix = augment.matrices.random_rotation(key, images, degrees=DEGREES)
            return augment.affine(images, matrix, sample=sample)

        return _with_key(rotate, images)

    works = {
        "jaxreg": work(augment.sampling.bilinear_matmul),
        "gathers": work(augment.sampling.bilinear),
        FLOOR: partial(_multiply, images),
    }
    times = shortest(works, turns=min(turns, 2))  # The products take seconds on CPU.
    label = f"rotation by products of matrices, {batch} images of {side} x {side}"
    return rows_against(label, times, floor=FLOOR)


def _rand_augment_rows(batch: int, side: int, turns: int) -> list[Row]:
    """Compares with Kornia, which draws once per call: one call per image, and one for all."""
    images = jax.random.uniform(jax.random.key(1), (batch, side, side, 3))
    works = {
        "jaxreg": _with_key(jax.jit(augment.rand_augment), images),
        FLOOR: partial(_multiply, images),
        **_if_on_cpu(lambda: _kornia_rand_augment(images)),
    }
    times = shortest(works, turns=turns)
    label = f"RandAugment, {batch} images of {side} x {side}"
    return rows_against(label, times, floor=FLOOR)


@jax.jit
def _multiply(images: jax.Array) -> jax.Array:
    return images * 0.5


def _if_on_cpu(peers: Callable[[], dict[str, Work]]) -> dict[str, Work]:
    """Returns peers in Kornia, whose images are on the CPU, if ours are there too."""
    return if_installed("kornia", peers) if jax.default_backend() == "cpu" else {}


def _kornia_rand_augment(images: jax.Array) -> dict[str, Work]:
    kornia = importlib.import_module("kornia.augmentation.auto")
    torch = importlib.import_module("torch")
    policy = kornia.RandAugment(n=2, m=9)
    tensor = _channels_first(images)

    def one_by_one() -> Any:
        with torch.no_grad():
            return torch.cat([policy(image[None]) for image in tensor]).numpy()

    def whole() -> Any:
        with torch.no_grad():
            return policy(tensor).numpy()

    return {"kornia, image by image": one_by_one, "kornia, the same for all": whole}


def _with_key(function: Callable[..., Any], images: jax.Array) -> Work:
    return partial(function, jax.random.key(0), images)


def _augmax(side: int) -> Callable[..., Any]:
    """Builds the pipeline of augmax, which also resamples once; its crop is the closest one."""
    augmax = importlib.import_module("augmax")
    colors = [STRENGTHS[name] for name in ("brightness", "contrast", "saturation", "hue")]
    chain = augmax.Chain(
        augmax.RandomSizedCrop(side, side),
        augmax.HorizontalFlip(),
        augmax.Rotate((-DEGREES, DEGREES), p=1.0),
        augmax.ColorJitter(*colors, p=1.0),
    )

    @jax.jit
    def work(key: jax.Array, images: jax.Array) -> Any:
        return jax.vmap(chain)(jax.random.split(key, len(images)), images)

    return work


@jax.jit
def _dm_pix(key: jax.Array, images: jax.Array) -> jax.Array:
    """Runs the pipeline of dm-pix, with ``jax.image.scale_and_translate`` as its resized crop."""
    pix = importlib.import_module("dm_pix")

    def one(key: jax.Array, image: jax.Array) -> jax.Array:
        keys = jax.random.split(key, 7)
        side = image.shape[0]
        zoom = jax.random.uniform(keys[0], (), minval=1.0, maxval=3.5)
        shift = -(zoom - 1) * side * jax.random.uniform(keys[1], (2,))
        scales = jnp.stack([zoom, zoom])
        image = jax.image.scale_and_translate(
            image, image.shape, (0, 1), scales, shift, "linear", antialias=False
        )
        image = pix.random_flip_left_right(keys[2], image)
        angle = jnp.deg2rad(jax.random.uniform(keys[3], (), minval=-DEGREES, maxval=DEGREES))
        image = pix.rotate(image, angle)
        image = pix.random_brightness(keys[4], image, STRENGTHS["brightness"])
        low, high = 1 - STRENGTHS["contrast"], 1 + STRENGTHS["contrast"]
        image = pix.random_contrast(keys[5], image, low, high)
        image = pix.random_saturation(keys[6], image, low, high)
        return jnp.clip(pix.random_hue(jax.random.fold_in(key, 7), image, STRENGTHS["hue"]), 0, 1)

    return jax.vmap(one)(jax.random.split(key, len(images)), images)


def _kornia(images: jax.Array) -> Work:
    """Builds the pipeline of Kornia, on images that already have the channels first."""
    kornia = importlib.import_module("kornia.augmentation")
    torch = importlib.import_module("torch")
    side = images.shape[1]
    chain = torch.nn.Sequential(
        kornia.RandomResizedCrop((side, side), ratio=(3 / 4, 4 / 3)),
        kornia.RandomHorizontalFlip(),
        kornia.RandomRotation(DEGREES, p=1.0),
        kornia.ColorJitter(*STRENGTHS.values(), p=1.0),
    )
    tensor = _channels_first(images)

    def work() -> Any:
        with torch.no_grad():
            return chain(tensor).numpy()

    return work


def _channels_first(images: jax.Array) -> Any:
    """Converts images to a torch tensor with the channels first."""
    torch = importlib.import_module("torch")
    numpy = importlib.import_module("numpy")
    return torch.from_numpy(numpy.array(images).transpose(0, 3, 1, 2).copy())
