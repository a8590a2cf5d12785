"""Rows of docs/coming_from/torchvision.md against figures of torchvision."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np

from jaxreg import augment, dropout
from jaxreg.augment import borders
from tests.exhaustive.docs.coming_from.figures import array, close, load
from tests.helpers import few

VISION = load("torchvision")
LEVELS = np.moveaxis(np.array(VISION["levels"], np.uint8), 0, -1)
IMAGE = LEVELS.astype(np.float32) / 255

FUNCTIONS = {
    "adjust_brightness": lambda x: augment.brightness(x, factor=1.3),
    "adjust_contrast": lambda x: augment.contrast(x, factor=0.7),
    "adjust_saturation": lambda x: augment.saturation(x, factor=1.5),
    "adjust_hue": lambda x: augment.hue(x, shift=0.1),
    "adjust_gamma": lambda x: augment.gamma(x, gamma=2.0),
    "adjust_sharpness": lambda x: augment.sharpness(x, factor=2.0),
    "solarize": lambda x: augment.solarize(x, threshold=0.5),
    "invert": augment.invert,
    "autocontrast": augment.autocontrast,
    "rgb_to_grayscale": augment.grayscale,
    "normalize": lambda x: augment.normalize(x, mean=0.5, stddev=0.25),
    "horizontal_flip": augment.flip_left_right,
    "vertical_flip": augment.flip_up_down,
    "rotate": lambda x: augment.rotate(x, degrees=20.0),
    "gaussian_blur": lambda x: augment.gaussian_blur(
        x, sigma=0.8, radius=1, border=borders.reflect
    ),
    "center_crop": lambda x: augment.center_crop(x, size=(4, 4)),
    "crop": lambda x: augment.crop(x, top=1, left=2, size=(4, 5)),
    "resize": lambda x: augment.resize(x, size=(3, 4)),
    # Not `augment.resized_crop`, whose filter reads the pixels next to the window, as PIL's does.
    "resized_crop": lambda x: augment.resize(
        augment.crop(x, top=1, left=2, size=(4, 4)), size=(2, 2)
    ),
    "pad": lambda x: augment.pad(x, width=1, border=borders.reflect),
    "erase": lambda x: augment.cutout(x, row=2.5, column=4.0, height=3, width=4),
}
# Gray is rounded there: 0.2989 for 0.299.
ROUNDED = ("adjust_contrast", "adjust_saturation", "rgb_to_grayscale", "adjust_sharpness")


def test_every_function_has_a_figure():
    assert set(VISION["floats"]) - {"affine"} == set(FUNCTIONS)


@few("name", FUNCTIONS)
def test_functions(name):
    expected = np.moveaxis(array(VISION["floats"][name]), 0, -1)
    actual = jax.jit(FUNCTIONS[name])(IMAGE)
    assert actual.shape == expected.shape
    close(actual, expected, atol=1e-3 if name in ROUNDED else 1e-5, rtol=0)


def test_functions_of_levels():
    for name, function in {
        "posterize": lambda x: augment.posterize(x, bits=2),
        "equalize": augment.equalize,
    }.items():
        expected = np.moveaxis(np.array(VISION["bytes"][name]), 0, -1)
        actual = augment.to_uint8(function(augment.to_float(LEVELS)))
        np.testing.assert_array_equal(actual, expected)


def test_stochastic_depth():
    figures = VISION["dropped"]
    assert figures["row decides for examples"]
    assert figures["batch decides once"]
    key = jax.random.key(0)
    rows = dropout.drop_path(key, jnp.ones((64, 2, 3)), rate=0.25)
    close(np.unique(rows), figures["row"])
    keys = jax.random.split(key, 20)
    zeros = jnp.zeros((4, 2))

    @jax.jit
    def call(key):
        return dropout.stochastic_depth(key, jnp.ones_like, zeros, rate=0.25)

    close(np.unique([call(key) for key in keys]), figures["row"])


def test_mixup_has_one_share_for_a_batch():
    """The partner is the example before."""
    x = array(VISION["mixed"]["x"])
    labels = array(VISION["mixed"]["labels"])
    partners = np.roll(np.arange(4), 1)
    share = labels[np.arange(4), np.arange(4)]
    close(share, np.full(4, share[0]))
    mixed = augment.mixup(
        np.arange(4, dtype="f4")[:, None],
        np.arange(4),
        partners.astype("f4")[:, None],
        partners,
        share=float(share[0]),
        num_classes=4,
    )
    close(mixed.x[:, 0], x)
    close(mixed.labels, labels)


def test_settings():
    settings = VISION["settings"]
    defaults = {
        name: parameter.default
        for name, parameter in inspect.signature(augment.random_resized_crop).parameters.items()
    }
    close(defaults["scale"], settings["RandomResizedCrop"]["scale"])
    close(defaults["ratio"], settings["RandomResizedCrop"]["ratio"])
    assert settings["RandAugment"]["num_magnitude_bins"] == 31
    assert settings["RandAugment"]["magnitude"] == 9
    rand = inspect.signature(augment.rand_augment).parameters
    assert rand["magnitude"].default == 9
    assert (
        settings["AugMix"]["severity"]
        == inspect.signature(augment.aug_mix).parameters["severity"].default
    )
    jitter = settings["ColorJitter"]
    close(jitter["brightness"], [0.6, 1.4])
    close(jitter["hue"], [-0.1, 0.1])
