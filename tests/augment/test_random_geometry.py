"""Random geometry: a ramp, which bilinear interpolation keeps, tells how it was moved."""

import jax
import numpy as np
import pytest
from scipy import ndimage, stats

from jaxreg import augment
from tests.augment.helpers import KEY, assert_distribution, assert_independent

NUMBER = 600
SIZE = 15
# A channel of x and one of y, from the center.
RAMP = np.stack(np.mgrid[-7:8, -7:8][::-1], axis=-1).astype(np.float32)
IMAGES = np.broadcast_to(RAMP, (NUMBER, SIZE, SIZE, 2))


def drawn(name, **options):
    """Moves the ramps and fills with a number, and checks that a border would be read."""
    function = getattr(augment, f"random_{name}")
    filled = np.asarray(jax.jit(lambda x: function(KEY, x, **options, fill=99.0))(IMAGES), float)
    # Beyond the border, and a part of it within a pixel of the border, is the filling.
    assert filled.min() >= -7 - 1e-4
    assert filled.max() > 90
    lengths = []

    def border(index, length):
        lengths.append(length)
        return augment.borders.edge(index, length)

    jax.eval_shape(lambda x: function(KEY, x, **options, border=border), IMAGES)
    assert SIZE in lengths
    return filled


def moves(y):
    """The affine matrices, from the values that the pixels about the center read."""
    x_step, y_step = y[:, 7, 8] - y[:, 7, 7], y[:, 8, 7] - y[:, 7, 7]
    linear = np.linalg.inv(np.stack([x_step, y_step], axis=-1))
    return linear, -np.einsum("nij,nj->ni", linear, y[:, 7, 7])


def uniform(limit):
    return stats.uniform(-limit, 2 * limit)


def test_angles_are_uniform():
    linear, shift = moves(drawn("rotate", degrees=60.0))
    angle = np.degrees(np.arctan2(linear[:, 0, 1], linear[:, 0, 0]))
    assert_distribution(angle, uniform(60))
    np.testing.assert_allclose(np.linalg.det(linear), 1, atol=1e-4)
    np.testing.assert_allclose(shift, 0, atol=1e-4)


def test_shifts_are_uniform():
    linear, shift = moves(drawn("translate", x=4.0, y=2.0))
    np.testing.assert_allclose(linear, np.stack([np.eye(2)] * NUMBER), atol=1e-4)
    assert_distribution(shift[:, 0], uniform(4))
    assert_distribution(shift[:, 1], uniform(2))
    assert_independent(shift[:, 0], shift[:, 1])


def test_logarithms_of_scales_are_uniform():
    linear, _ = moves(drawn("scale", x=0.5, y=0.25))
    np.testing.assert_allclose(linear[:, [0, 1], [1, 0]], 0, atol=1e-4)
    assert_distribution(np.log(linear[:, 0, 0]), uniform(np.log(1.5)))
    assert_distribution(np.log(linear[:, 1, 1]), uniform(np.log(1.25)))


def test_shears_are_uniform():
    linear, _ = moves(drawn("shear", x=0.5, y=0.2))
    np.testing.assert_allclose(linear[:, [0, 1], [0, 1]], 1, atol=1e-3)
    assert_distribution(linear[:, 0, 1], uniform(0.5))
    assert_distribution(linear[:, 1, 0], uniform(0.2))


def test_an_affine_map_shears_scales_turns_and_shifts():
    options = {"degrees": 40.0, "shift": 1.5, "scale": 0.3, "shear": 0.4}
    linear, shift = moves(drawn("affine", **options))
    # Of a rotation after a scale after a shear of x, the first column is a turned unit vector.
    column = linear[:, :, 0]
    scale = np.linalg.norm(column, axis=1)
    angle = np.degrees(np.arctan2(-column[:, 1], column[:, 0]))
    shear = np.einsum("ni,ni->n", column, linear[:, :, 1]) / scale**2
    np.testing.assert_allclose(np.linalg.det(linear), scale**2, rtol=1e-3)
    assert_distribution(np.log(scale), uniform(np.log(1.3)))
    assert_distribution(angle, uniform(40))
    assert_distribution(shear, uniform(0.4))
    assert_distribution(shift, uniform(1.5))
    numbers = np.stack([np.log(scale), angle, shear, *shift.T])
    assert abs(np.corrcoef(numbers) - np.eye(5)).max() < 5 / NUMBER**0.5


def test_corners_of_a_perspective_move_inward_each_by_itself():
    filled = drawn("perspective", distortion=0.4)
    # From 9 pixels about the center: the homography that reads there, and the one that moves.
    places = [(i, j) for i in (5, 7, 9) for j in (5, 7, 9)]
    x, y = np.stack([filled[:200, i, j] for i, j in places], axis=1).transpose(2, 0, 1)[..., None]
    own = np.broadcast_to([[j - 7, i - 7, 1] for i, j in places], (200, 9, 3))
    none = np.zeros_like(own)
    rows = [np.concatenate([own, none, -x * own], axis=2), np.concatenate([none, own, -y * own], 2)]
    back = np.linalg.svd(np.concatenate(rows, axis=1))[2][:, -1].reshape(200, 3, 3)
    half = SIZE / 2
    corners = np.array([[-1, -1, 1], [1, -1, 1], [1, 1, 1], [-1, 1, 1]]) * (half, half, 1)
    moved = corners @ np.linalg.inv(back).transpose(0, 2, 1)
    share = 1 - moved[..., :2] / moved[..., 2:] / corners[:, :2]
    assert_distribution(np.reshape(share, (200, 8))[:, 0], stats.uniform(0, 0.4))
    assert_distribution(share, stats.uniform(0, 0.4))
    together = np.corrcoef(np.reshape(share, (200, 8)).T) - np.eye(8)
    assert abs(together).max() < 5 / 200**0.5


def displacement(**options):
    y = drawn("elastic", **options)
    return (y - RAMP)[:, 4:11, 4:11]  # as far from the border as the strength


def test_displacements_are_uniform_where_they_are_not_blurred():
    moved = displacement(strength=3.0, sigma=0.0, radius=1)
    assert_distribution(moved[:100, ..., 0], uniform(3))
    assert_distribution(moved[:100, ..., 1], uniform(3))
    assert_independent(moved[..., 0], moved[..., 1])
    assert_independent(moved[:, :-1], moved[:, 1:])


def test_displacements_are_blurred():
    moved = displacement(strength=3.0, sigma=0.8, radius=1)
    taps = np.exp(-0.5 * np.array([-1, 0, 1]) ** 2 / 0.64)
    taps /= taps.sum()
    # The variance of a sum of independent numbers, weighted by the taps of both axes.
    expected = 3 / 3**0.5 * np.sum(taps**2)
    np.testing.assert_allclose(moved.std(), expected, rtol=0.03)
    beside = np.mean(moved[:, :, :-1] * moved[:, :, 1:]) / np.mean(moved**2)
    np.testing.assert_allclose(beside, 2 * taps[0] * taps[1] / np.sum(taps**2), atol=0.03)


def test_torchvisions_displacements_are_those_of_half_the_strength():
    """Its noise is blurred, times alpha over the size, and in halves of the size then."""
    alpha, sigma, size = 8.0, 1.0, 15
    noise = np.random.default_rng(0).uniform(-1, 1, (400, size, size))
    blurred = ndimage.gaussian_filter(noise, (0, sigma, sigma), radius=4, mode="mirror")
    theirs = blurred * alpha / size * size / 2
    ours = displacement(strength=alpha / 2, sigma=sigma, radius=4)
    np.testing.assert_allclose(ours.std(), theirs[:, 4:11, 4:11].std(), rtol=0.03)


def test_one_image_and_none():
    functions = {
        "rotate": {"degrees": 9.0},
        "affine": {"degrees": 9.0},
        "perspective": {"distortion": 0.5},
        "elastic": {"strength": 1.0, "sigma": 1.0, "radius": 2},
    }
    for name, options in functions.items():
        for shape in ((9, 9, 3), (2, 0, 9, 8, 1)):
            image = jax.ShapeDtypeStruct(shape, "float16")
            y = jax.eval_shape(
                lambda x, n=name, o=options: getattr(augment, f"random_{n}")(KEY, x, **o), image
            )
            assert (y.shape, y.dtype) == (shape, "float16")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("affine", {"shear": -1.0}, r"`shear` must be zero or positive"),
        ("affine", {"shift": -1.0}, r"`shift` must be zero or positive"),
        ("affine", {"degrees": -1.0}, r"`degrees` must be zero or positive"),
        ("elastic", {"strength": -1.0, "sigma": 1.0, "radius": 1}, r"`strength` must be zero or"),
        ("elastic", {"strength": 1.0, "sigma": 1.0, "radius": -1}, r"`radius` must be zero or"),
    ],
)
def test_wrong_arguments_are_named(name, options, message):
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(lambda: getattr(augment, f"random_{name}")(KEY, IMAGES[:2], **options))
