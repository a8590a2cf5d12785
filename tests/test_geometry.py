"""Geometry: PIL and SciPy as references, matrices that compose, borders, windows, boundaries."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from jaxreg import augment

KEY = jax.random.key(50)
IMAGE = np.random.default_rng(0).random((9, 12, 3)).astype(np.float32)
CHANNEL = IMAGE[..., :1]


def pil(image):
    """A PIL image of 32-bit floats, which PIL does not round."""
    return Image.fromarray(np.asarray(image)[..., 0])


def inner(y, margin=1):
    return np.asarray(y)[margin:-margin, margin:-margin]


def pulled(matrix, image, size=None):
    """The offset and the matrix that SciPy takes, rows first, from a matrix about the centre."""
    size = image.shape[:2] if size is None else size
    there, here = (np.array([(n - 1) / 2 for n in s]) for s in (image.shape[:2], size))
    back = np.linalg.inv(np.asarray(matrix, np.float64))
    linear = back[:2, :2][::-1, ::-1]
    return linear, there + back[:2, 2][::-1] - linear @ here


MATRICES = {
    "rotation": augment.rotation(33.0),
    "shift": augment.translation(1.3, -2.6),
    "shrink": augment.scaling(0.7, 0.6),
    "mirror": augment.scaling(-1.2, 1.1),
    "shear": augment.shearing(0.4, -0.2),
    "all": augment.chain(
        augment.shearing(0.3, 0.1), augment.rotation(-70.0), augment.translation(0.7, 1.9)
    ),
}
BORDERS = {
    "grid-constant": {"fill": 0.3},
    "nearest": {"border": augment.edge},
    "mirror": {"border": augment.reflect},
    "grid-wrap": {"border": augment.wrap},
}


@pytest.mark.parametrize("mode", BORDERS)
@pytest.mark.parametrize("name", MATRICES)
def test_affine_is_scipys_in_float64(name, mode):
    with jax.enable_x64(True):
        image = np.asarray(IMAGE, np.float64)
        matrix = jnp.asarray(np.asarray(MATRICES[name], np.float64))
        size = (7, 15)
        y = augment.affine(jnp.asarray(image), matrix, size=size, **BORDERS[mode])
        linear, offset = pulled(matrix, image, size)
        for channel in range(3):
            expected = ndimage.affine_transform(
                image[..., channel], linear, offset, size, order=1, mode=mode, cval=0.3
            )
            np.testing.assert_allclose(y[..., channel], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", MATRICES)
def test_nearest_is_scipys(name):
    # Off the halves between pixels, which rounding decides.
    matrix = augment.chain(MATRICES[name], augment.translation(0.013, 0.007))
    linear, offset = pulled(matrix, IMAGE)
    y = augment.affine(jnp.asarray(CHANNEL), matrix, sample=augment.nearest, fill=0.3)
    expected = ndimage.affine_transform(
        CHANNEL[..., 0], linear, offset, order=0, mode="grid-constant", cval=0.3
    )
    np.testing.assert_array_equal(y[..., 0], expected)


@pytest.mark.parametrize("degrees", [10.0, -35.0, 90.0, 120.0])
def test_rotate_turns_as_pil_does(degrees):
    """PIL reads nothing where the centre of a pixel is outside; ours fades over one pixel."""
    square = CHANNEL[:, :9]
    y = augment.rotate(jnp.asarray(square), degrees=degrees)
    expected = pil(square).rotate(degrees, resample=Image.Resampling.BILINEAR)
    covered = augment.rotate(jnp.ones_like(square), degrees=degrees)[..., 0] > 1 - 1e-4
    assert covered.sum() > 40
    # PIL keeps its coordinates in fixed point.
    np.testing.assert_allclose(
        np.asarray(y)[..., 0][covered], np.asarray(expected)[covered], rtol=0, atol=1e-3
    )


@pytest.mark.parametrize("name", MATRICES)
def test_affine_is_pils_transform(name):
    back = np.linalg.inv(np.asarray(MATRICES[name], np.float64))
    centre = np.array([12 / 2, 9 / 2])
    shift = centre + back[:2, 2] - back[:2, :2] @ centre
    data = (*back[0, :2], shift[0], *back[1, :2], shift[1])
    expected = pil(CHANNEL).transform(
        (12, 9), Image.Transform.AFFINE, data, resample=Image.Resampling.BILINEAR
    )
    y = augment.affine(jnp.asarray(CHANNEL), MATRICES[name])
    covered = augment.affine(jnp.ones_like(CHANNEL), MATRICES[name])[..., 0] > 1 - 1e-4
    assert covered.sum() > 20
    np.testing.assert_allclose(
        np.asarray(y)[..., 0][covered], np.asarray(expected)[covered], rtol=0, atol=1e-3
    )


def test_perspective_is_pils_transform():
    corners = jnp.array([[-5.0, -3.5], [4.0, -4.0], [5.5, 3.0], [-4.5, 4.5]])
    matrix = augment.quadrilateral(corners, size=(9, 12))
    to_centre, back = np.eye(3), np.linalg.inv(np.asarray(matrix, np.float64))
    to_centre[:2, 2] = (-6, -4.5)
    pulling = np.linalg.inv(to_centre) @ back @ to_centre
    data = (pulling / pulling[2, 2]).ravel()[:8]
    expected = pil(CHANNEL).transform(
        (12, 9), Image.Transform.PERSPECTIVE, data, resample=Image.Resampling.BILINEAR
    )
    y = augment.perspective(jnp.asarray(CHANNEL), matrix)
    covered = augment.perspective(jnp.ones_like(CHANNEL), matrix)[..., 0] > 1 - 1e-4
    assert covered.sum() > 40
    np.testing.assert_allclose(
        np.asarray(y)[..., 0][covered], np.asarray(expected)[covered], rtol=0, atol=1e-4
    )


def test_a_quadrilateral_moves_the_corners_there():
    corners = jnp.array([[-5.0, -3.5], [4.0, -4.0], [5.5, 3.0], [-4.5, 4.5]])
    matrix = np.asarray(augment.quadrilateral(corners, size=(9, 12)))
    own = np.array([[-6, -4.5, 1], [6, -4.5, 1], [6, 4.5, 1], [-6, 4.5, 1]])
    moved = own @ matrix.T
    np.testing.assert_allclose(moved[:, :2] / moved[:, 2:], corners, atol=1e-5)


def test_a_perspective_shows_nothing_behind_its_horizon():
    matrix = jnp.eye(3).at[2, 0].set(0.4)
    y = augment.perspective(jnp.ones((5, 41, 1)), matrix, fill=-1.0)
    # Points go to x / (1 + 0.4 x), below 1 / 0.4 = 2.5 for all that lie before the horizon.
    x = jnp.arange(41) - 20.0
    assert (y[:, (x > 2.5)] == -1).all()
    assert (y[2, (x > -20) & (x < 2)] == 1).all()
    affine_part = augment.affine(jnp.ones((5, 41, 1)), matrix)
    assert (affine_part == 1).all()


@pytest.mark.parametrize(("size", "box"), [((4, 5), None), ((20, 7), None), ((5, 6), (2, 1, 9, 7))])
def test_resize_is_pils(size, box):
    expected = pil(CHANNEL).resize(size[::-1], Image.Resampling.BILINEAR, box=box)
    if box is None:
        y = augment.resize(jnp.asarray(CHANNEL), size=size)
    else:
        left, top, right, bottom = box
        window = {"top": top, "left": left, "height": bottom - top, "width": right - left}
        y = augment.resized_crop(jnp.asarray(CHANNEL), **window, size=size)
    np.testing.assert_allclose(y[..., 0], np.asarray(expected), rtol=0, atol=1e-6)


def test_a_window_of_a_resized_crop_is_that_of_the_matrix():
    images = jnp.asarray(np.stack([CHANNEL, CHANNEL[::-1]]))
    top, left = jnp.array([1.0, 2.5]), jnp.array([3.0, 0.5])
    height, width = jnp.array([6.0, 5.0]), jnp.array([8.0, 4.0])
    sizes = {"image_size": (9, 12), "size": (11, 13)}
    matrix = augment.window(top, left, height, width, **sizes)
    y = augment.affine(images, matrix, size=(11, 13), border=augment.edge)
    expected = augment.resized_crop(
        images, top=top, left=left, height=height, width=width, size=(11, 13)
    )
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-5)


def test_matrices_compose_into_one_resampling():
    """On an image that bilinear interpolation keeps, a chain is its steps one after the other."""
    y, x = jnp.mgrid[0:21, 0:21].astype(jnp.float32)
    ramp = jnp.stack([x, y, x + 2 * y], axis=-1)
    steps = [augment.rotation(20.0), augment.translation(1.5, -0.5), augment.scaling(1.2, 0.9)]
    at_once = augment.affine(ramp, augment.chain(*steps))
    one_by_one = ramp
    for step in steps:
        one_by_one = augment.affine(one_by_one, step)
    np.testing.assert_allclose(inner(at_once, 6), inner(one_by_one, 6), rtol=0, atol=1e-4)
    reverse = augment.affine(ramp, augment.chain(*reversed(steps)))
    assert abs(inner(reverse, 6) - inner(at_once, 6)).max() > 0.1


def test_members_are_their_matrices():
    image = jnp.asarray(IMAGE)
    for member, matrix in (
        (augment.rotate(image, degrees=33.0), augment.rotation(33.0)),
        (augment.translate(image, x=1.3, y=-2.6), augment.translation(1.3, -2.6)),
        (augment.scale(image, x=0.7, y=0.6), augment.scaling(0.7, 0.6)),
        (augment.shear(image, x=0.4, y=-0.2), augment.shearing(0.4, -0.2)),
    ):
        np.testing.assert_allclose(member, augment.affine(image, matrix), rtol=0, atol=1e-6)
    np.testing.assert_allclose(
        augment.affine(image, augment.scaling(-1.0, 1.0)), image[:, ::-1], rtol=0, atol=1e-6
    )


@pytest.mark.parametrize("turns", [-1, 0, 1, 2, 3, 5])
def test_rot90_is_numpys_and_agrees_with_rotate(turns):
    y = augment.rot90(jnp.asarray(IMAGE), turns=turns)
    np.testing.assert_array_equal(y, np.rot90(IMAGE, turns))
    turned = augment.affine(jnp.asarray(IMAGE), augment.rotation(90.0 * turns), size=y.shape[:2])
    np.testing.assert_allclose(y, turned, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("border", "mode"),
    [(augment.edge, "edge"), (augment.reflect, "reflect"), (augment.wrap, "wrap")],
)
def test_borders_are_numpys(border, mode):
    y = augment.pad(jnp.asarray(IMAGE), width=(15, 3, 0, 30), border=border)
    np.testing.assert_array_equal(y, np.pad(IMAGE, ((15, 3), (0, 30), (0, 0)), mode))
    assert (border(jnp.arange(-3, 4), 1) == 0).all()


def test_pad_fills_with_a_value_for_each_channel():
    y = augment.pad(jnp.asarray(IMAGE), width=2, fill=jnp.array([0.1, 0.2, 0.3]))
    np.testing.assert_array_equal(inner(y, 2), IMAGE)
    assert np.allclose(y[0, 5], [0.1, 0.2, 0.3])
    assert np.allclose(y[5, -1], [0.1, 0.2, 0.3])


def test_center_crop_takes_the_middle():
    y = augment.center_crop(jnp.asarray(IMAGE), size=(3, 4))
    np.testing.assert_array_equal(y, IMAGE[3:6, 4:8])
    # Python rounds halves to even, as torchvision does: 2.5 to 2.
    np.testing.assert_array_equal(augment.center_crop(jnp.asarray(IMAGE), size=(4, 12)), IMAGE[2:6])


def test_crop_reads_each_example_at_its_own_place():
    images = jnp.asarray(np.stack([IMAGE] * 3))
    y = augment.crop(images, top=jnp.array([0, 2, 99]), left=1, size=(4, 5))
    for image, top in zip(y, (0, 2, 5), strict=True):
        np.testing.assert_array_equal(image, IMAGE[top : top + 4, 1:6])


@pytest.mark.slow
def test_strengths_are_one_for_each_example():
    images = jnp.asarray(np.stack([IMAGE, IMAGE, IMAGE]))
    y = augment.rotate(images, degrees=jnp.array([0.0, 30.0, -50.0]))
    np.testing.assert_array_equal(y[0], IMAGE)
    for i, degrees in ((1, 30.0), (2, -50.0)):
        np.testing.assert_allclose(y[i], augment.rotate(images[i], degrees=degrees), atol=1e-6)
    sequences = jnp.stack([images, images[::-1]])
    turned = augment.rotate(sequences, degrees=jnp.array([[10.0], [20.0]]))
    np.testing.assert_allclose(turned[1, 2], augment.rotate(images[0], degrees=20.0), atol=1e-6)


RANDOM = {
    "flip_left_right": lambda k, x: augment.random_flip_left_right(k, x, probability=0.5),
    "flip_up_down": lambda k, x: augment.random_flip_up_down(k, x, probability=0.5),
    "rot90": augment.random_rot90,
    "rotate": lambda k, x: augment.random_rotate(k, x, degrees=30.0),
    "translate": lambda k, x: augment.random_translate(k, x, x=3.0, y=3.0),
    "scale": lambda k, x: augment.random_scale(k, x, x=0.3, y=0.3),
    "shear": lambda k, x: augment.random_shear(k, x, x=0.3, y=0.3),
    "perspective": lambda k, x: augment.random_perspective(k, x, distortion=0.5),
    "crop": lambda k, x: augment.random_crop(k, x, size=(4, 5)),
    "resized_crop": lambda k, x: augment.random_resized_crop(k, x, size=(4, 5)),
    "elastic": lambda k, x: augment.random_elastic(k, x, strength=4.0, sigma=1.0, radius=3),
}


@pytest.mark.parametrize("name", RANDOM)
def test_each_example_has_a_draw_of_its_own(name):
    images = jnp.asarray(np.stack([IMAGE[:, :9]] * 8))
    y = np.asarray(jax.jit(RANDOM[name])(KEY, images))
    different = {image.tobytes() for image in y}
    assert len(different) >= (2 if "flip" in name else 3)
    again = np.asarray(jax.jit(RANDOM[name])(KEY, images))
    np.testing.assert_array_equal(y, again)


@pytest.mark.parametrize("name", RANDOM)
def test_an_empty_batch_stays_empty(name):
    y = RANDOM[name](KEY, jnp.zeros((0, 9, 9, 3)))
    assert y.shape[0] == 0


def test_the_draws_are_those_of_the_limits():
    images = jnp.zeros((20000, 1, 1, 1))
    matrix = np.asarray(augment.random_rotation(KEY, images, degrees=40.0))
    angle = np.degrees(np.arctan2(matrix[:, 0, 1], matrix[:, 0, 0]))
    assert abs(angle).max() <= 40
    np.testing.assert_allclose(angle.mean(), 0, atol=5 * 40 / np.sqrt(3 * 20000))
    np.testing.assert_allclose(angle.std(), 40 / np.sqrt(3), rtol=0.03)
    matrix = np.asarray(augment.random_scaling(KEY, images, x=0.25, y=0.0))
    logarithm = np.log(matrix[:, 0, 0]) / np.log(1.25)
    assert abs(logarithm).max() <= 1 + 1e-6
    np.testing.assert_allclose(logarithm.std(), 1 / np.sqrt(3), rtol=0.03)
    assert (matrix[:, 1, 1] == 1).all()
    matrix = np.asarray(augment.random_translation(KEY, images, x=3.0, y=3.0))
    together = np.corrcoef(matrix[:, 0, 2], matrix[:, 1, 2])[0, 1]
    assert abs(together) < 5 / np.sqrt(20000)


def test_windows_have_the_area_and_the_ratio_asked_for():
    images = jnp.zeros((4000, 64, 64, 1))
    matrix = np.asarray(
        augment.random_window(KEY, images, size=(64, 64), scale=(0.1, 0.5), ratio=(0.5, 2.0))
    )
    width, height = 64 / matrix[:, 0, 0], 64 / matrix[:, 1, 1]
    assert np.allclose(width, width.round(), atol=1e-3)
    area, ratio = width * height / 64**2, np.log(width / height)
    assert area.min() > 0.1 - 0.02
    assert area.max() < 0.5 + 0.02
    assert abs(ratio).max() < np.log(2) + 0.1
    np.testing.assert_allclose(ratio.mean(), 0, atol=5 * ratio.std() / np.sqrt(4000))
    # The middle of a window: none passes the border, and both borders are reached.
    x = -matrix[:, 0, 2] / matrix[:, 0, 0]
    left, right = 32 + x - width / 2, 32 - x - width / 2
    for free in (left, right):
        assert free.min() > -1e-3
        assert (free < 0.5).any()


def test_a_window_that_never_fits_is_the_largest_in_the_middle():
    """torchvision's fallback: 60 by 10 pixels at ratios of at most 2 are 20 by 10."""
    images = jnp.zeros((3, 10, 60, 1))
    matrix = augment.random_window(KEY, images, size=(10, 20), scale=(1.0, 1.0), ratio=(0.5, 2.0))
    np.testing.assert_allclose(matrix, jnp.stack([jnp.eye(3)] * 3), atol=1e-6)


def test_a_displacement_reads_from_there():
    """SciPy's ``map_coordinates`` with the borders that the two have in common."""
    rng = np.random.default_rng(1)
    displacement = rng.normal(size=(9, 12, 2)) * 3
    y, x = np.mgrid[0:9, 0:12]
    with jax.enable_x64(True):
        image = jnp.asarray(CHANNEL, jnp.float64)
        for mode, border in (("nearest", augment.edge), ("mirror", augment.reflect)):
            expected = ndimage.map_coordinates(
                np.asarray(image)[..., 0],
                [y + displacement[..., 1], x + displacement[..., 0]],
                order=1,
                mode=mode,
            )
            warped = augment.elastic(image, jnp.asarray(displacement), border=border)
            np.testing.assert_allclose(warped[..., 0], expected, rtol=0, atol=1e-12)


def test_coordinates_that_are_nowhere_read_the_filling():
    image = jnp.ones((3, 3, 1))
    nowhere = jnp.array([[jnp.nan, jnp.inf, -jnp.inf, 1e20, -1e20]])
    for sample in (augment.bilinear, augment.nearest):
        y = sample(image, nowhere, jnp.ones_like(nowhere), fill=-2.0)
        assert (y == -2).all()
        assert (sample(image, nowhere, jnp.ones_like(nowhere), border=augment.edge) == 1).all()
    assert (augment.scale(image, x=0.0, y=1.0, fill=-2.0)[:, 0] == -2).all()


@pytest.mark.slow
def test_gradients_reach_the_angle():
    with jax.enable_x64(True):
        y, x = jnp.mgrid[0:15, 0:15].astype(jnp.float64) - 7
        bump = jnp.exp(-((x - 2) ** 2 + (y / 2) ** 2) / 8)[..., None]

        def total(degrees):
            return jnp.sum(augment.rotate(bump, degrees=degrees) * x[..., None])

        slope = (total(20.0 + 1e-6) - total(20.0 - 1e-6)) / 2e-6
        np.testing.assert_allclose(jax.grad(total)(20.0), slope, rtol=1e-5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: augment.rotate(x[..., 0], degrees=1.0), r"shape \[..., height, width, channels"),
        (lambda x: augment.affine(x, jnp.eye(2)), r"`matrix` must be of shape .* got \(2, 2\)"),
        (
            lambda x: augment.affine(x, jnp.ones((4, 3, 3))),
            r"`matrix` must broadcast to shape \(\)",
        ),
        (lambda x: augment.resize(x, size=(0, 2)), r"`size` must be positive, got \(0, 2\)"),
        (lambda x: augment.random_rot90(KEY, x), r"`image` must be square, got 9 x 12"),
        (lambda x: augment.bilinear(x, jnp.ones(3), jnp.ones(3)), r"`x` must be of shape"),
        (lambda x: augment.resize(x[:0], size=(2, 2)), r"`image` must have pixels"),
        (lambda x: augment.bilinear(x[:0], x[..., 0], x[..., 0]), r"`image` must have pixels"),
        (lambda x: augment.quadrilateral(jnp.ones((3, 2)), size=(2, 2)), r"`corners` must be"),
        (lambda x: augment.random_crop(KEY, x, size=(10, 3)), r"enlarge it first with augment.pad"),
    ],
)
def test_what_cannot_be_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(jnp.asarray(IMAGE))


def test_uint8_is_told_how_to_be_converted():
    with pytest.raises(TypeError, match=r"`image` .* got uint8; .* augment.to_float\(image\)"):
        augment.rotate(jnp.zeros((3, 3, 1), jnp.uint8), degrees=3.0)
