"""Random flips, turns and crops: each result is one of all that can be, and all are as likely."""

import jax
import numpy as np
import pytest
from scipy import stats

from jaxreg import augment
from tests.augment.helpers import (
    IMAGE,
    KEY,
    assert_as_likely,
    assert_distribution,
    assert_independent,
)
from tests.helpers import assert_rate

NUMBER = 2000
SQUARE = IMAGE[:3, :3]


def drawn(image, name, **options):
    function = getattr(augment, f"random_{name}")
    images = np.broadcast_to(image, (NUMBER, *image.shape))
    return np.asarray(jax.jit(lambda x: function(KEY, x, **options))(images))


def kinds(images, candidates):
    """The candidate that each image equals, bit for bit."""
    same = [(images == candidate).all(axis=(1, 2, 3)) for candidate in candidates]
    assert (np.sum(same, axis=0) == 1).all()
    return np.argmax(same, axis=0)


@pytest.mark.parametrize(
    ("name", "flipped"),
    [("flip_left_right", IMAGE[:, ::-1]), ("flip_up_down", IMAGE[::-1])],
)
def test_flips_have_their_probability(name, flipped):
    hit = kinds(drawn(IMAGE, name, probability=0.3), [IMAGE, flipped])
    assert_rate(hit.mean(), 0.3, NUMBER)
    with pytest.raises(ValueError, match=r"`probability` must be a probability"):
        getattr(augment, f"random_{name}")(KEY, IMAGE, probability=1.5)


def test_all_turns_are_as_likely():
    turns = kinds(drawn(SQUARE, "rot90"), [np.rot90(SQUARE, k) for k in range(4)])
    assert_as_likely(turns[:, None], 4)


def test_all_crops_are_as_likely():
    crops = drawn(IMAGE, "crop", size=(7, 10))
    places = [(top, left) for top in range(3) for left in range(3)]
    found = kinds(crops, [IMAGE[t : t + 7, l : l + 10] for t, l in places])  # noqa: E741
    assert_as_likely(found[:, None], 9)


def test_resized_crops_have_the_area_and_the_ratio_asked_for():
    """A ramp that is not shrunk tells the window that its result shows."""
    ramp = np.stack(np.mgrid[0:16, 0:24][::-1] + 0.5, axis=-1).astype(np.float32)
    options = {"size": (16, 24), "scale": (0.3, 0.5), "ratio": (1.0, 1.5)}
    y = drawn(ramp, "resized_crop", **options).astype(np.float64)
    width, height = 24 * (y[:, 8, 12, 0] - y[:, 8, 11, 0]), 16 * (y[:, 8, 12, 1] - y[:, 7, 12, 1])
    left = (y[:, 8, 11, 0] + y[:, 8, 12, 0]) / 2 - width / 2
    top = (y[:, 7, 12, 1] + y[:, 8, 12, 1]) / 2 - height / 2
    for whole in (width, height, left, top):
        np.testing.assert_allclose(whole, np.round(whole), atol=1e-3)
    area, ratio = width * height / 384, width / height
    np.testing.assert_allclose([area.min(), area.max()], [0.3, 0.5], atol=0.05)
    np.testing.assert_allclose([ratio.min(), ratio.max()], [1, 1.5], atol=0.15)
    jitter = np.random.default_rng(0).random(NUMBER)
    places = (left + jitter) / (25 - width), (top + jitter) / (17 - height)
    for place in places:
        assert_distribution(place, stats.uniform)
    assert_independent(*places)


def test_shapes_of_one_image_and_of_none():
    for shape in ((0, 9, 9, 3), (2, 3, 9, 9, 1)):
        image = jax.ShapeDtypeStruct(shape, "float16")
        for name, options in (
            ("flip_left_right", {"probability": 0.5}),
            ("flip_up_down", {"probability": 0.5}),
            ("rot90", {}),
            ("crop", {"size": (4, 5)}),
            ("resized_crop", {"size": (4, 5)}),
        ):
            y = jax.eval_shape(
                lambda x, n=name, o=options: getattr(augment, f"random_{n}")(KEY, x, **o), image
            )
            height, width = (4, 5) if "size" in options else (9, 9)
            assert (y.shape, y.dtype) == ((*shape[:-3], height, width, shape[-1]), "float16")


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match=r"`image` must be square for quarter turns, got 9 x 12"):
        augment.random_rot90(KEY, IMAGE)
    with pytest.raises(ValueError, match=r"enlarge the image first with augment.pad"):
        augment.random_crop(KEY, IMAGE, size=(10, 3))
    with pytest.raises(ValueError, match=r"`scale` must be"):
        augment.random_resized_crop(KEY, IMAGE, size=(4, 4), scale=(-1.0, 1.0))
