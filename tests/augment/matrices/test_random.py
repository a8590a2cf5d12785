"""Random matrices: their entries are uniform within the limits, windows fit and lie anywhere."""

from functools import partial

import jax
import numpy as np
import pytest
from scipy import stats

from jaxreg import augment
from jaxreg.augment import matrices
from jaxreg.augment.matrices.random import draw_window
from tests.augment.helpers import KEY, assert_distribution, assert_independent
from tests.helpers import assert_rate

NUMBER = 4000
IMAGES = np.zeros((NUMBER, 10, 20, 1), np.float32)
CORNERS = np.array([[-10, -5, 1], [10, -5, 1], [10, 5, 1], [-10, 5, 1]])


def drawn(name, **options):
    function = getattr(matrices, f"random_{name}")
    return np.asarray(jax.jit(lambda x: function(KEY, x, **options))(IMAGES), np.float64)


def assert_entries(matrix, free):
    """All entries except the free ones equal the identity's."""
    fixed = np.ones((3, 3), bool)
    for place in free:
        fixed[place] = False
    expected = np.broadcast_to(np.eye(3)[fixed], (NUMBER, fixed.sum()))
    np.testing.assert_array_equal(matrix[:, fixed], expected)


def test_angles_are_uniform():
    matrix = drawn("rotation", degrees=40.0)
    angle = np.degrees(np.arctan2(matrix[:, 0, 1], matrix[:, 0, 0]))
    assert_distribution(angle, stats.uniform(-40, 80))
    np.testing.assert_allclose(np.linalg.det(matrix), 1, atol=1e-5)
    assert_entries(matrix, [(0, 0), (0, 1), (1, 0), (1, 1)])


def test_shifts_are_uniform_and_apart():
    matrix = drawn("translation", x=3.0, y=1.0)
    assert_entries(matrix, [(0, 2), (1, 2)])
    assert_distribution(matrix[:, 0, 2], stats.uniform(-3, 6))
    assert_distribution(matrix[:, 1, 2], stats.uniform(-1, 2))
    assert_independent(matrix[:, 0, 2], matrix[:, 1, 2])


def test_logarithms_of_scales_are_uniform_and_apart():
    matrix = drawn("scaling", x=0.25, y=1.0)
    assert_entries(matrix, [(0, 0), (1, 1)])
    for i, limit in ((0, np.log(1.25)), (1, np.log(2))):
        assert_distribution(np.log(matrix[:, i, i]), stats.uniform(-limit, 2 * limit))
    assert_independent(matrix[:, 0, 0], matrix[:, 1, 1])


def test_shears_are_uniform_and_apart():
    matrix = drawn("shearing", x=0.3, y=0.1)
    assert_entries(matrix, [(0, 1), (1, 0)])
    assert_distribution(matrix[:, 0, 1], stats.uniform(-0.3, 0.6))
    assert_distribution(matrix[:, 1, 0], stats.uniform(-0.1, 0.2))
    assert_independent(matrix[:, 0, 1], matrix[:, 1, 0])


def test_reflections_have_their_probability():
    matrix = drawn("reflection", probability=0.3)
    assert_entries(matrix, [(0, 0)])
    assert set(np.unique(matrix[:, 0, 0])) == {-1, 1}
    assert_rate((matrix[:, 0, 0] == -1).mean(), 0.3, NUMBER)


def test_corners_move_inward_each_by_itself():
    run = jax.jit(lambda x, share: matrices.random_quadrilateral(KEY, x, distortion=share))
    matrix = np.asarray(run(IMAGES, 0.4), np.float64)
    moved = np.einsum("ck,nik->nci", CORNERS, matrix)
    share = 1 - moved[..., :2] / moved[..., 2:] / CORNERS[:, :2]
    for corner in range(4):
        for axis in range(2):
            assert_distribution(share[:, corner, axis], stats.uniform(0, 0.4))
    together = np.corrcoef(share.reshape(NUMBER, 8).T) - np.eye(8)
    assert abs(together).max() < 5 / NUMBER**0.5
    assert_entries(np.asarray(run(IMAGES, 0.0)), [])


WIDE = np.zeros((NUMBER, 48, 64, 1), np.float32)
windows = jax.jit(partial(draw_window, KEY, WIDE))


def window(*, scale, ratio):
    """The windows of many images of 48 by 64 pixels."""
    return np.asarray(windows(scale, ratio), np.float64)


def test_windows_have_the_area_and_the_ratio_asked_for():
    top, left, height, width = window(scale=(0.1, 0.4), ratio=(0.5, 1.2))
    for whole in (top, left, height, width):
        np.testing.assert_array_equal(whole, np.round(whole))
    area = width * height / (48 * 64)
    ratio = np.log(width / height)
    assert area.min() > 0.1 - 0.015
    assert area.max() < 0.4 + 0.015
    np.testing.assert_allclose(area.mean(), 0.25, atol=5 * area.std() / NUMBER**0.5 + 0.002)
    low, high = np.log([0.5, 1.2])
    assert ratio.min() > low - 0.1
    assert ratio.max() < high + 0.1
    np.testing.assert_allclose(
        ratio.mean(), (low + high) / 2, atol=5 * ratio.std() / NUMBER**0.5 + 0.002
    )
    # Every whole place at which a window fits is as likely.
    jitter = np.random.default_rng(0).random(NUMBER)
    assert_distribution((top + jitter) / (49 - height), stats.uniform)
    assert_distribution((left + jitter) / (65 - width), stats.uniform)
    assert_independent(top / (49 - height), left / (65 - width))


def test_the_first_of_ten_windows_that_fits_is_taken():
    """Half of all areas do not fit: a second attempt is uniform among those that do."""
    _, _, height, width = window(scale=(0.5, 1.5), ratio=(64 / 48, 64 / 48))
    assert abs(height - 0.75 * width).max() < 0.9  # Both are rounded.
    assert height.max() == 48
    assert width.max() == 64
    # Windows of a width of 45.3 to 64.5, with all areas as likely.
    expected = stats.uniform(0.5, (64.5 / 64) ** 2 - 0.5)
    jitter = np.random.default_rng(0).random(NUMBER) - 0.5
    assert stats.kstest(((width + jitter) / 64) ** 2, expected.cdf).statistic < 0.04


@pytest.mark.parametrize(
    ("ratio", "expected"),
    [((0.5, 1.0), (0, 8, 48, 48)), ((2.0, 4.0), (8, 0, 32, 64))],
    ids=["too high", "too wide"],
)
def test_a_window_that_never_fits_is_the_largest_in_the_middle(ratio, expected):
    """torchvision's fallback, at the nearest ratio: 48 by 64 pixels at 2 and more are 32 by 64."""
    found = window(scale=(1.0, 1.0), ratio=ratio)
    np.testing.assert_array_equal(found, np.transpose([expected] * NUMBER))


def test_windows_are_at_least_one_pixel():
    for ratio, expected in ((1e4, (23, 0, 1, 64)), (1e-4, (0, 31, 48, 1))):
        found = window(scale=(1.0, 1.0), ratio=(ratio, ratio))
        np.testing.assert_array_equal(found, np.transpose([expected] * NUMBER))
    # An area of nothing never fits.
    found = window(scale=(0.0, 0.0), ratio=(1.0, 1.0))
    np.testing.assert_array_equal(found, np.transpose([(0, 8, 48, 48)] * NUMBER))


def test_the_default_windows_are_the_published_ones():
    """8 to 100 percent of the area, a ratio of 3/4 to 4/3, spread over a result of its size."""
    images = np.zeros((NUMBER, 90, 100, 1), np.float32)
    run = jax.jit(lambda x: matrices.random_window(KEY, x, size=(40, 60)))
    matrix = np.asarray(run(images), np.float64)
    assert_entries(matrix, [(0, 0), (1, 1), (0, 2), (1, 2)])
    width, height = 60 / matrix[:, 0, 0], 40 / matrix[:, 1, 1]
    area, ratio = width * height / 9000, width / height
    np.testing.assert_allclose([area.min(), area.max()], [0.08, 1], atol=0.03)
    np.testing.assert_allclose([ratio.min(), ratio.max()], [3 / 4, 4 / 3], atol=0.05)
    # The first corner of the result is read at a whole pixel of the image, from the first on.
    left = 50 + (-30 - matrix[:, 0, 2]) / matrix[:, 0, 0]
    top = 45 + (-20 - matrix[:, 1, 2]) / matrix[:, 1, 1]
    for begin, size, length in ((left, width, 100), (top, height, 90)):
        np.testing.assert_allclose(begin, np.round(begin), atol=1e-3)
        np.testing.assert_allclose(begin.min(), 0, atol=1e-3)
        np.testing.assert_allclose((begin + size).max(), length, atol=1e-3)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("rotation", {"degrees": -1.0}, r"`degrees` must be zero or positive"),
        ("scaling", {"x": 0.1, "y": -1.0}, r"`y` must be zero or positive"),
        ("quadrilateral", {"distortion": 1.5}, r"`distortion` must be .*got 1\.5"),
        ("reflection", {"probability": -0.5}, r"`probability` must be a probability"),
        ("window", {"size": (2, 2), "ratio": (-1, 2)}, r"`ratio` must be"),
        ("window", {"size": (2, 2), "ratio": (0, 1)}, r"`ratio` must be positive, got 0"),
        ("window", {"size": (2, 2), "ratio": (1, np.inf)}, r"`ratio` must be finite, got inf"),
        ("window", {"size": (2, 2), "ratio": 1.0}, r"`ratio` must be a pair"),
        ("window", {"size": (2, 2), "scale": (0, 0)}, r"`scale` must be positive, got 0"),
        ("window", {"size": (2, 2), "scale": (0, np.inf)}, r"`scale` must be finite"),
        ("window", {"size": (2, 2), "scale": (np.nan, 1)}, r"`scale` must be zero or positive"),
        ("rotation", {"degrees": np.inf}, r"`degrees` must be finite, got inf"),
        ("translation", {"x": np.inf, "y": 0.0}, r"`x` must be finite, got inf"),
        ("window", {"size": (2, 0)}, r"`size` must be positive"),
    ],
)
def test_wrong_arguments_are_named(name, options, message):
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(lambda: getattr(matrices, f"random_{name}")(KEY, IMAGES[:2], **options))


@pytest.mark.exhaustive
def test_matrices_of_labels_are_those_of_their_images():
    options = {
        "rotation": {"degrees": 9.0},
        "translation": {"x": 1.0, "y": 1.0},
        "scaling": {"x": 1.0, "y": 1.0},
        "shearing": {"x": 1.0, "y": 1.0},
        "reflection": {"probability": 0.5},
        "quadrilateral": {"distortion": 0.5},
        "window": {"size": (2, 2)},
    }

    @jax.jit
    def run(images, labels):
        calls = [(getattr(matrices, f"random_{name}"), o) for name, o in options.items()]
        return [[call(KEY, x, **o) for x in (images, labels)] for call, o in calls]

    for one, other in run(IMAGES[:4, :8, :8], IMAGES[:4, :8, :8, :1].astype(np.uint8)):
        np.testing.assert_array_equal(one, other)


def test_traced_windows_at_the_limits_are_finite():
    """A ratio of 0 or infinity fits nowhere: the widest or the highest central window is left."""

    @jax.jit
    def run(x, low, high):
        return augment.random_resized_crop(KEY, x, size=(4, 4), scale=(low, 1.0), ratio=(low, high))

    x = np.ones((20, 8, 8, 1), np.float32)
    for low, high in ((0.0, 1.0), (0.0, 0.0), (np.inf, np.inf), (0.0, np.inf)):
        np.testing.assert_allclose(run(x, low, high), np.ones((20, 4, 4, 1)), atol=1e-6)
