"""Geometry: PIL and SciPy as references, matrices that compose, horizons, displacements."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from jaxreg import augment
from tests.augment.helpers import CHANNEL, IMAGE, assert_rounded_once, inner, pil


def matrix(*rows):
    return np.array([*rows, (0, 0, 1)], np.float32)


def rotation(degrees):
    cos = np.cos(np.deg2rad(degrees))
    sin = np.sin(np.deg2rad(degrees))
    return matrix((cos, sin, 0), (-sin, cos, 0))


MATRICES = np.stack(
    [
        rotation(33.0),
        matrix((1, 0, 1.3), (0, 1, -2.6)),
        matrix((0.7, 0, 0), (0, 0.6, 0)),
        matrix((-1.2, 0, 0), (0, 1.1, 0)),
        matrix((1, 0.4, 0), (-0.2, 1, 0)),
        rotation(-70.0) @ matrix((1, 0.3, 0.7), (0.1, 1, 1.9)),
    ]
)
BORDERS = {
    "grid-constant": {"fill": 0.3},
    "nearest": {"border": augment.borders.edge},
    "mirror": {"border": augment.borders.reflect},
    "grid-wrap": {"border": augment.borders.wrap},
}
# What bilinear interpolation keeps: PIL reads nothing where the center of a pixel is outside, ours
# fades over one pixel, so that the two are compared where a warped image of ones is one.
WITH_ONES = np.concatenate([CHANNEL, np.ones_like(CHANNEL)], axis=-1)


def pulled(matrix, image, size=None):
    """The offset and the matrix that SciPy takes, rows first, from a matrix about the center."""
    size = image.shape[:2] if size is None else size
    there = (np.array(image.shape[:2]) - 1) / 2
    here = (np.array(size) - 1) / 2
    back = np.linalg.inv(np.asarray(matrix, np.float64))
    linear = back[:2, :2][::-1, ::-1]
    return linear, there + back[:2, 2][::-1] - linear @ here


def assert_equal_where_covered(y, expected, *, least, atol):
    y = np.asarray(y)
    covered = y[..., 1] > 1 - 1e-4
    assert covered.sum() > least
    np.testing.assert_allclose(y[..., 0][covered], np.asarray(expected)[covered], rtol=0, atol=atol)


def test_affine_is_scipys_in_float64():
    size = (7, 15)
    with jax.enable_x64(True):
        image = IMAGE.astype(np.float64)
        matrices = MATRICES.astype(np.float64)
        warped = jax.jit(
            lambda x, m: [augment.affine(x, m, size=size, **b) for b in BORDERS.values()]
        )
        for one in matrices:
            linear, offset = pulled(one, image, size)
            for y, mode in zip(warped(image, one), BORDERS, strict=True):
                for channel in range(3):
                    expected = ndimage.affine_transform(
                        image[..., channel], linear, offset, size, order=1, mode=mode, cval=0.3
                    )
                    np.testing.assert_allclose(y[..., channel], expected, rtol=0, atol=1e-12)


def test_nearest_is_scipys():
    # Off the halves between pixels, which rounding decides.
    off = matrix((1, 0, 0.013), (0, 1, 0.007))
    warped = jax.jit(lambda x, m: augment.affine(x, m, sample=augment.sampling.nearest, fill=0.3))
    for one in MATRICES:
        linear, offset = pulled(off @ one, IMAGE)
        expected = ndimage.affine_transform(
            CHANNEL[..., 0], linear, offset, order=0, mode="grid-constant", cval=0.3
        )
        np.testing.assert_array_equal(warped(CHANNEL, off @ one)[..., 0], expected)


def test_rotate_turns_as_pil_does():
    square = CHANNEL[:, :9]
    call = jax.jit(lambda x, degrees: augment.rotate(x, degrees=degrees))
    for degrees in (10.0, -35.0, 90.0, 120.0):
        y = call(np.concatenate([square, np.ones_like(square)], axis=-1), degrees)
        expected = pil(square).rotate(degrees, resample=Image.Resampling.BILINEAR)
        # PIL keeps its coordinates in fixed point.
        assert_equal_where_covered(y, expected, least=40, atol=1e-3)


def test_affine_is_pils_transform():
    warped = jax.jit(augment.affine)
    for one in MATRICES:
        back = np.linalg.inv(np.asarray(one, np.float64))
        center = np.array([12 / 2, 9 / 2])
        shift = center + back[:2, 2] - back[:2, :2] @ center
        data = (*back[0, :2], shift[0], *back[1, :2], shift[1])
        expected = pil(CHANNEL).transform(
            (12, 9), Image.Transform.AFFINE, data, resample=Image.Resampling.BILINEAR
        )
        assert_equal_where_covered(warped(WITH_ONES, one), expected, least=20, atol=1e-3)


def test_perspective_is_pils_transform():
    projective = np.array([[0.8, 0.1, -0.3], [-0.05, 0.9, 0.2], [0.02, -0.01, 1.1]], np.float32)
    to_centre = np.eye(3)
    back = np.linalg.inv(np.asarray(projective, np.float64))
    to_centre[:2, 2] = (-6, -4.5)
    pulling = np.linalg.inv(to_centre) @ back @ to_centre
    data = (pulling / pulling[2, 2]).ravel()[:8]
    expected = pil(CHANNEL).transform(
        (12, 9), Image.Transform.PERSPECTIVE, data, resample=Image.Resampling.BILINEAR
    )
    warped = jax.jit(augment.perspective)
    y = warped(WITH_ONES, projective)
    assert_equal_where_covered(y, expected, least=40, atol=1e-4)
    # A mirrored image is mirrored back: what lies before the horizon does so in a mirror, too.
    mirror = np.diag(np.float32([-1, 1, 1]))
    back = warped(WITH_ONES[:, ::-1], projective @ mirror)
    np.testing.assert_allclose(back, y, atol=1e-5)
    # A projective matrix has no scale.
    np.testing.assert_allclose(warped(WITH_ONES, np.float32(2.5) * projective), y, atol=1e-5)
    np.testing.assert_array_equal(warped(WITH_ONES, np.eye(3, dtype=np.float32)), WITH_ONES)


def test_a_perspective_shows_nothing_behind_its_horizon():
    tilted = np.eye(3, dtype=np.float32)
    tilted[2, 0] = 0.4
    ones = np.ones((5, 41, 1), np.float32)
    run = jax.jit(
        lambda x, m: (augment.perspective(x, m, fill=-1.0), augment.affine(x, m, fill=-1))
    )
    y, same = jax.device_get(run(ones, tilted))
    # Points go to x / (1 + 0.4 x), below 1 / 0.4 = 2.5 for all that lie before the horizon.
    x = np.arange(41) - 20.0
    assert (y[:, (x > 2.5)] == -1).all()
    assert (y[2, (x > -20) & (x < 2)] == 1).all()
    np.testing.assert_array_equal(same, y)


def test_matrices_compose_into_one_resampling():
    """On an image that bilinear interpolation keeps, a chain is its steps one after the other."""
    y, x = np.mgrid[0:21, 0:21].astype(np.float32)
    ramp = np.stack([x, y, x + 2 * y], axis=-1)
    steps = rotation(20.0), matrix((1, 0, 1.5), (0, 1, -0.5)), matrix((1.2, 0, 0), (0, 0.9, 0))
    warped = jax.jit(augment.affine)
    at_once = warped(ramp, steps[2] @ steps[1] @ steps[0])
    one_by_one = ramp
    for step in steps:
        one_by_one = warped(one_by_one, step)
    np.testing.assert_allclose(inner(at_once, 6), inner(one_by_one, 6), rtol=0, atol=1e-4)
    reverse = warped(ramp, steps[0] @ steps[1] @ steps[2])
    assert abs(inner(reverse, 6) - inner(at_once, 6)).max() > 0.1


def test_members_are_their_matrices():
    @jax.jit
    def members(image):
        return (
            augment.rotate(image, degrees=33.0, fill=0.3),
            augment.translate(image, x=1.3, y=-2.6, fill=0.3),
            augment.scale(image, x=0.7, y=0.6, fill=0.3),
            augment.shear(image, x=0.4, y=-0.2, fill=0.3),
        )

    @jax.jit
    def with_borders(image):
        return (
            augment.rotate(image, degrees=33.0, border=augment.borders.edge),
            augment.translate(image, x=1.3, y=-2.6, border=augment.borders.edge),
            augment.scale(image, x=0.7, y=0.6, border=augment.borders.edge),
            augment.shear(image, x=0.4, y=-0.2, border=augment.borders.edge),
        )

    for run, mode in ((members, "grid-constant"), (with_borders, "nearest")):
        for y, one in zip(run(IMAGE), MATRICES[[0, 1, 2, 4]], strict=True):
            linear, offset = pulled(one, IMAGE)
            for channel in range(3):
                expected = ndimage.affine_transform(
                    IMAGE[..., channel].astype(np.float64),
                    linear,
                    offset,
                    order=1,
                    mode=mode,
                    cval=0.3,
                )
                np.testing.assert_allclose(y[..., channel], expected, atol=1e-5)


def test_strengths_are_one_for_each_example():
    sequences = np.stack([[IMAGE] * 3, [IMAGE[::-1]] * 3])
    call = jax.jit(lambda x, d: augment.rotate(x, degrees=d))
    degrees = np.array([0.0, 30.0, -50.0], np.float32)
    y = call(sequences, degrees)
    np.testing.assert_array_equal(y[:, 0], sequences[:, 0])
    turned = call(sequences, np.array([[30.0], [-50.0]], np.float32))
    np.testing.assert_allclose(turned[0, 0], y[0, 1], atol=1e-6)
    np.testing.assert_allclose(turned[1, 1], y[1, 2], atol=1e-6)
    for i in (1, 2):
        linear, offset = pulled(rotation(degrees[i]), IMAGE)
        expected = ndimage.affine_transform(
            IMAGE[::-1, :, 0].astype(np.float64), linear, offset, order=1, mode="grid-constant"
        )
        np.testing.assert_allclose(y[1, i, ..., 0], expected, atol=1e-5)


def test_a_displacement_reads_from_there():
    """SciPy's ``map_coordinates`` with the borders that the two have in common."""
    displacement = np.random.default_rng(1).normal(size=(9, 12, 2)) * 3
    y, x = np.mgrid[0:9, 0:12]
    places = [y + displacement[..., 1], x + displacement[..., 0]]
    with jax.enable_x64(True):
        image = IMAGE.astype(np.float64)
        warped = jax.jit(lambda x, d: [augment.elastic(x, d, **b) for b in BORDERS.values()])
        for actual, mode in zip(warped(image, displacement), BORDERS, strict=True):
            expected = ndimage.map_coordinates(image[..., 1], places, order=1, mode=mode, cval=0.3)
            np.testing.assert_allclose(actual[..., 1], expected, rtol=0, atol=1e-12)
        odd = np.where(image < 0.5, -0.0, np.nan)
        for same in warped(odd, np.zeros_like(displacement)):
            assert np.asarray(same).tobytes() == odd.tobytes()


def test_one_displacement_may_serve_all_examples():
    shift = np.broadcast_to(np.float32([1, 0]), (9, 12, 2))
    images = np.stack([IMAGE, IMAGE[::-1]])
    y, nearest = jax.jit(
        lambda x, d: (augment.elastic(x, d), augment.elastic(x, d, sample=augment.sampling.nearest))
    )(images, shift)
    np.testing.assert_allclose(y[:, :, :-1], images[:, :, 1:], atol=1e-6)
    np.testing.assert_array_equal(y[:, :, -1], np.zeros((2, 9, 3)))
    np.testing.assert_array_equal(nearest[:, :, :-1], images[:, :, 1:])


def test_a_scale_of_0_reads_the_filling():
    y = jax.jit(lambda x: augment.scale(x, x=0.0, y=1.0, fill=-2.0))(np.ones((3, 3, 1), np.float32))
    assert (y[:, 0] == -2).all()


def test_the_identity_keeps_every_bit_and_narrow_images_are_rounded_once():
    odd = np.where(IMAGE < 0.5, -0.0, np.nan).astype(np.float32)
    same = jax.jit(lambda x, d: augment.rotate(x, degrees=d))(odd, 0.0)
    assert np.asarray(same).tobytes() == odd.tobytes()
    # Of another size there is nothing to keep, though the matrix is the identity.
    larger = jax.jit(lambda x, m: augment.affine(x, m, size=(11, 14), fill=2.0))(
        IMAGE, np.eye(3, dtype=np.float32)
    )
    np.testing.assert_allclose(inner(larger), IMAGE, atol=1e-6)
    assert (np.asarray(larger)[0] == 2).all()
    assert_rounded_once(lambda x: augment.rotate(x, degrees=33.0), IMAGE)
    assert_rounded_once(lambda x: augment.perspective(x, HOMOGRAPHY), IMAGE)


HOMOGRAPHY = np.array([[0.8, 0.1, -0.3], [-0.05, 0.9, 0.2], [0.02, -0.01, 1.1]], np.float32)


def test_gradients_reach_the_angle():
    with jax.enable_x64(True):
        y, x = np.mgrid[0:15, 0:15].astype(np.float64) - 7
        bump = np.exp(-((x - 2) ** 2 + (y / 2) ** 2) / 8)[..., None]

        @jax.jit
        @jax.value_and_grad
        def total(degrees):
            return jnp.sum(augment.rotate(jnp.asarray(bump), degrees=degrees) * x[..., None])

        slope = (total(20.0 + 1e-6)[0] - total(20.0 - 1e-6)[0]) / 2e-6
        np.testing.assert_allclose(total(20.0)[1], slope, rtol=1e-5)


def test_a_rotation_taken_back_has_the_gradient_of_the_identity():
    """Positions are on pixels but for rounding, where an index and its weight may not part."""
    images = 0.5 + 0.4 * np.sin(np.arange(8.0 * 9 * 7 * 2, dtype=np.float32)).reshape(8, 9, 7, 2)
    weights = np.cos(np.arange(images.size, dtype=np.float32)).reshape(images.shape)

    @jax.jit
    def gradient(images, degrees):
        there_and_back = augment.matrices.chain(
            augment.matrices.rotation(degrees), augment.matrices.rotation(-degrees)
        )
        return jax.grad(lambda x: jnp.sum(weights * augment.affine(x, there_and_back)))(images)

    for degrees in (4.0, 17.0, 33.0):
        angles = np.linspace(degrees, degrees + 8, 8, dtype=np.float32)
        np.testing.assert_allclose(gradient(images, angles), weights, atol=1e-5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: augment.rotate(x[..., 0], degrees=1.0), r"shape \[..., height, width, channels"),
        (lambda x: augment.affine(x, np.eye(2)), r"`matrix` must be of shape .* got \(2, 2\)"),
        (lambda x: augment.affine(x, np.ones((4, 3, 3))), r"`matrix` must broadcast to shape \(\)"),
        (lambda x: augment.perspective(x, np.eye(2)), r"`matrix` must be of shape .*got \(2, 2\)"),
        (lambda x: augment.elastic(x, np.ones((9, 12, 3))), r"`displacement` must broadcast"),
        (lambda x: augment.rotate(x[:0], degrees=1.0), r"`image` must have at least one pixel"),
    ],
)
def test_wrong_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(call, IMAGE)


def test_nothing_is_read_between_labels():
    for dtype in (np.uint8, np.int32, bool):
        labels = np.zeros((3, 3, 1), dtype)
        for sample in (augment.sampling.bilinear, augment.sampling.bilinear_matmul):
            with pytest.raises(TypeError, match=r"`image` .* sample=augment\.sampling\.nearest"):
                jax.eval_shape(lambda x, s=sample: augment.affine(x, np.eye(3), sample=s), labels)


def test_angles_and_shears_count_the_other_way_than_torchvisions_affine():
    """Its matrix, from `_get_inverse_affine_matrix`: both are clockwise there."""
    for angle, shear_x, shear_y in ((30.0, 0.0, 0.0), (0.0, 20.0, 0.0), (0.0, 0.0, 20.0)):
        a, sx, sy = np.deg2rad([angle, shear_x, shear_y])
        theirs = [
            [np.cos(a - sy) / np.cos(sy), -np.cos(a - sy) * np.tan(sx) / np.cos(sy) - np.sin(a)],
            [np.sin(a - sy) / np.cos(sy), -np.sin(a - sy) * np.tan(sx) / np.cos(sy) + np.cos(a)],
        ]
        ours = augment.matrices.chain(
            augment.matrices.shearing(-np.tan(sx), -np.tan(sy)),
            augment.matrices.rotation(np.float32(-angle)),
        )
        np.testing.assert_allclose(ours[:2, :2], theirs, atol=1e-6)


def test_gradients_reach_the_perspective_of_the_identity():
    """So that one can be learned from the identity on."""
    image = IMAGE[..., 0:1] ** 2

    @jax.jit
    @jax.grad
    def slope(tilt):
        matrix = jnp.eye(3).at[2, 0].set(tilt)
        return jnp.sum(augment.affine(image, matrix, size=(9, 11)) ** 2)

    assert np.isfinite(slope(0.0))
    assert abs(slope(0.0)) > 1e-3


def test_a_matrix_that_has_no_inverse_reads_the_filling_and_has_finite_gradients():
    @jax.jit
    @jax.value_and_grad
    def total(x):
        return jnp.sum(augment.affine(IMAGE, jnp.diag(jnp.stack([x, 1.0, 1.0])), fill=-2.0))

    value, slope = total(0.0)
    np.testing.assert_allclose(value, -2.0 * IMAGE.size)
    assert np.isfinite(slope)
