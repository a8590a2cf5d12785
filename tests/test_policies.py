"""Policies: PIL at every published magnitude, the published tables, distributions, edges."""

import collections
import importlib.util
import json
import pathlib
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from PIL import Image, ImageEnhance, ImageOps
from scipy import stats

from jaxreg import augment
from jaxreg.augment import operations

KEY = jax.random.key(90)
REFERENCES = pathlib.Path(__file__).parent / "references"
# Of even sizes, so that no pixel turned by 90 degrees lies between two others.
LEVELS = np.random.default_rng(0).integers(0, 256, (24, 18, 3), np.uint8)
NAMES = {
    id(value): name.lower()
    for name, value in vars(operations).items()
    if isinstance(value, operations.Operation | operations.Warp)
}


def pulled(image, *data):
    return image.transform(image.size, Image.Transform.AFFINE, data)


PILS = {
    "identity": lambda i, s: i,
    "shear_x": lambda i, s: pulled(i, 1, s, 0, 0, 1, 0),
    "shear_y": lambda i, s: pulled(i, 1, 0, 0, s, 1, 0),
    "translate_x": lambda i, s: pulled(i, 1, 0, -int(s * i.width), 0, 1, 0),
    "translate_y": lambda i, s: pulled(i, 1, 0, 0, 0, 1, -int(s * i.height)),
    "rotate": lambda i, s: i.rotate(s),
    "brightness": lambda i, s: ImageEnhance.Brightness(i).enhance(1 + s),
    "color": lambda i, s: ImageEnhance.Color(i).enhance(1 + s),
    "contrast": lambda i, s: ImageEnhance.Contrast(i).enhance(1 + s),
    "sharpness": lambda i, s: ImageEnhance.Sharpness(i).enhance(1 + s),
    "posterize": lambda i, s: ImageOps.posterize(i, round(s)),
    "solarize": lambda i, s: ImageOps.solarize(i, s),
    "auto_contrast": lambda i, s: ImageOps.autocontrast(i),
    "equalize": lambda i, s: ImageOps.equalize(i),
    "invert": lambda i, s: ImageOps.invert(i),
}
WIDE = {
    "shear_x": 0.99,
    "shear_y": 0.99,
    "rotate": 135.0,
    "brightness": 0.99,
    "color": 0.99,
    "contrast": 0.99,
    "sharpness": 0.99,
    "posterize": 2.0,
}
ENHANCED = ("brightness", "color", "contrast", "sharpness")
RANGES = {
    "shear_x": (0, 0.3),
    "shear_y": (0, 0.3),
    "translate_x": (0, 150 / 331),
    "translate_y": (0, 150 / 331),
    "rotate": (0, 30),
    "posterize": (8, 4),
    "solarize": (256, 0),
    **dict.fromkeys(ENHANCED, (0, 0.9)),
}


GEOMETRIES = ("shear_x", "shear_y", "translate_x", "translate_y", "rotate")


def excess(y, name, strength):
    """The error of a color and the share of wrong pixels of a geometry, relative to their bounds.

    PIL rounds the other image of a blend and cuts the result off. Where a point lies in the middle
    between two pixels, the one that a slightly other strength takes is right, too.
    """
    nudges = (1, 1 + 1e-4, 1 - 1e-4) if name in GEOMETRIES else (1,)
    image = Image.fromarray(LEVELS)
    right = [np.asarray(PILS[name](image, n * strength), np.float64) for n in nudges]
    error = np.min([abs(np.asarray(y, np.float64) * 255 - r).max(-1) for r in right], axis=0)
    if name in GEOMETRIES:
        return (error > 0.01).mean() / 0.01
    if name in ENHANCED:
        return error.max() / (1.01 + 0.51 * abs(strength))
    return error.max() / (1.01 if name == "auto_contrast" else 1e-3)


@pytest.mark.parametrize("name", PILS)
def test_operations_are_pils_at_all_published_magnitudes(name):
    published = getattr(operations, name.upper())
    images = jnp.asarray(np.stack([LEVELS] * 4), jnp.float32) / 255

    @jax.jit
    def at_all(high, magnitudes):
        only = [published._replace(high=high)]
        return jax.vmap(
            lambda m: augment.rand_augment(KEY, images, magnitude=m, operations=only, number=1)
        )(magnitudes)

    low, high = RANGES.get(name, (0, 0))
    for top in dict.fromkeys([high, WIDE.get(name, high)]):
        y = np.asarray(at_all(top, jnp.arange(31.0)))
        directions = set()
        for magnitude, at_one in enumerate(y):
            strength = low + (top - low) * magnitude / 30
            signs = (1, -1) if published.signed else (1,)
            for example in at_one:
                errors = [excess(example, name, sign * strength) for sign in signs]
                assert min(errors) < 1, (magnitude, errors)
                directions.add(int(np.argmin(errors)))
        assert len(directions) == len(signs)


def test_the_published_sets_have_the_published_ranges():
    assert len(operations.RAND_AUGMENT) == len(operations.TRIVIAL_AUGMENT_WIDE) == 14
    names = [NAMES[id(one)] for one in operations.RAND_AUGMENT]
    assert set(names) == set(PILS) - {"invert"}
    for name, one, wide in zip(
        names, operations.RAND_AUGMENT, operations.TRIVIAL_AUGMENT_WIDE, strict=True
    ):
        assert (one.low, one.high) == pytest.approx(RANGES.get(name, (0, 0)))
        assert wide.signed == one.signed
        if name in ("translate_x", "translate_y"):
            assert (wide.low, wide.high) == (0, 32)
        else:
            assert wide == one._replace(high=WIDE.get(name, one.high))
    kinds = (
        "auto_contrast equalize posterize rotate solarize shear_x shear_y translate_x translate_y"
    )
    ranges = dict(RANGES, posterize=(4, 0), translate_x=(0, 1 / 3), translate_y=(0, 1 / 3))
    assert [(one.low, one.high) for one in operations.AUG_MIX] == [
        pytest.approx(ranges.get(name, (0, 0))) for name in kinds.split()
    ]


def test_the_wide_shift_and_the_posterize_of_aug_mix_are_whole():
    """Pixels and lost bits are cut off to integers, as ``int`` of the published code does."""
    x, y = (one.matrix for one in operations.TRIVIAL_AUGMENT_WIDE[3:5])
    pixels = jnp.array([-3.9, 0.9, 2.0])
    np.testing.assert_array_equal(x(None, pixels)[:, :2, 2], [[-3, 0], [0, 0], [2, 0]])
    np.testing.assert_array_equal(y(None, pixels)[:, :2, 2], [[0, -3], [0, 0], [0, 2]])
    images = jnp.asarray(np.stack([LEVELS] * 3), jnp.float32) / 255
    lost = jnp.array([0.0, 0.9, 1.1])
    kept = operations.AUG_MIX[2].function(images, 4 - lost)
    for found, bits in zip(kept, (4, 4, 3), strict=True):
        expected = np.asarray(ImageOps.posterize(Image.fromarray(LEVELS), bits))
        np.testing.assert_array_equal(augment.to_uint8(found), expected)


@pytest.mark.parametrize("name", ["cifar10", "imagenet", "svhn"])
def test_tables_are_those_of_kornia(name):
    """kornia 0.9.0 has them as torchvision does, without the magnitudes that are not read."""
    path = REFERENCES / "auto_augment_kornia.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    reference = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(reference)
    policy = getattr(augment, f"{name.upper()}_POLICY")
    assert [len(steps) for steps in policy] == [2] * 25

    def row(step):
        one = step.operation
        return [NAMES[id(one)], step.probability, None if one.high == one.low else step.magnitude]

    rows = [[row(step) for step in steps] for steps in policy]
    stored = json.loads(path.with_suffix(".json").read_text())[f"{name}_policy"]
    assert reference.digest(rows) == stored


def marker(number, scale):
    """Writes down its number and the sign of its strength after what has been written before."""

    def write(image, strength):
        mark = 2 * number + (strength > 0).astype(image.dtype)
        return scale * image + mark[..., None, None, None]

    return augment.Operation(write, low=1.0, high=1.0, signed=True)


def test_operations_and_directions_are_chosen_evenly_and_apart():
    markers = [marker(i, 28) for i in range(14)]
    images = jnp.zeros((80000, 1, 1, 1))
    y = jax.jit(partial(augment.rand_augment, operations=markers))(KEY, images)
    counts = np.bincount(np.asarray(y, int).ravel(), minlength=28**2)
    assert len(counts) == 28**2
    assert stats.chisquare(counts).pvalue > 1e-4


def test_trivial_augment_draws_31_levels_evenly():
    def write(image, strength):
        return image + strength[..., None, None, None]

    count = augment.Operation(write, high=30.0)
    images = jnp.zeros((30000, 1, 1, 1))
    y = jax.jit(partial(augment.trivial_augment, operations=[count]))(KEY, images)
    y = np.asarray(y).ravel()
    np.testing.assert_allclose(y, np.round(y), atol=1e-5)
    counts = np.bincount(np.round(y).astype(int), minlength=31)
    assert len(counts) == 31
    assert stats.chisquare(counts).pvalue > 1e-4


def test_sequences_of_a_policy_happen_as_often_as_they_say():
    def adds(number):
        def write(image, strength):
            return image + number + strength[..., None, None, None] / 100

        return augment.Operation(write, high=9.0)

    one, two, four = adds(1), adds(2), adds(4)
    step = augment.Step
    policy = [[step(one, 0.3, 5)], [step(two, 1.0, 3), step(four, 0.5, 0)], [step(one, 0.0, 9)]]
    images = jnp.zeros((40000, 1, 1, 1))
    y = jax.jit(partial(augment.auto_augment, policy=policy))(KEY, images)
    y = np.asarray(y).ravel()
    outcomes = {0: 1 / 3 * 0.7 + 1 / 3, 1.05: 0.1, 2.03: 1 / 6, 6.03: 1 / 6}
    counts = collections.Counter(np.round(y.astype(float), 4))
    assert set(counts) == set(outcomes)
    expected = [len(y) * p for p in outcomes.values()]
    assert stats.chisquare([counts[v] for v in outcomes], expected).pvalue > 1e-4


TURN = operations.ROTATE._replace(signed=False)
SHIFT = operations.TRANSLATE_X._replace(signed=False)
LIGHT = operations.BRIGHTNESS._replace(signed=False)


@pytest.mark.parametrize(
    "steps", [(TURN, LIGHT), (LIGHT, TURN), (TURN, SHIFT), (LIGHT, TURN, LIGHT)]
)
def test_steps_come_in_order_and_two_geometries_are_one(steps):
    images = jnp.asarray(LEVELS[None], jnp.float32) / 255
    policy = [[augment.Step(one, 1.0, 3) for one in steps]]
    options = {"fill": 0.3, "sample": augment.bilinear}
    y = jax.jit(partial(augment.auto_augment, policy=policy, **options))(KEY, images)
    expected, pixels = images, jnp.trunc(jnp.float32(150 / 331 / 3 * 18))
    if SHIFT in steps:
        matrix = augment.chain(augment.rotation(10.0), augment.translation(pixels, 0.0))
        expected = augment.affine(images, matrix, fill=0.3)
    else:
        for one in steps:
            if one is TURN:
                expected = augment.rotate(expected, degrees=10.0, fill=0.3)
            else:
                expected = augment.brightness(expected, factor=1.3)
    np.testing.assert_allclose(y, expected, atol=1e-5)


@pytest.mark.slow
def test_what_does_nothing_is_the_identity_to_the_bit():
    odd = jnp.array([0.0, -0.0, 1e-40, jnp.inf, jnp.nan, 0.3])
    images = jnp.resize(odd, (4, 5, 3, 1))
    without = (operations.SHEAR_X, operations.COLOR, operations.POSTERIZE, operations.TRANSLATE_Y)
    never = [[s._replace(probability=0.0) for s in steps] for steps in augment.SVHN_POLICY[:3]]
    for same in (
        augment.rand_augment(KEY, images, number=0),
        jax.jit(partial(augment.rand_augment, operations=without))(KEY, images, magnitude=0.0),
        jax.jit(partial(augment.auto_augment, policy=never))(KEY, images),
        jax.jit(partial(augment.aug_mix, operations=without[:2]))(KEY, images, alpha=0.0),
    ):
        assert np.asarray(same).tobytes() == np.asarray(images).tobytes()


def test_strengths_and_policies_may_be_traced_and_mapped():
    """A search over probabilities, magnitudes and ranges compiles once."""
    images = jnp.full((6, 3, 3, 1), 0.5)
    traces = []

    @jax.jit
    def searched(probability, magnitude, high):
        traces.append(1)
        one = LIGHT._replace(high=high)
        step = augment.Step(one, probability, magnitude)
        y = augment.auto_augment(KEY, images, policy=[[step]])
        return augment.rand_augment(KEY, y, magnitude=magnitude, operations=[one], number=1)

    for probability, magnitude, high in ((0.0, 3.0, 0.9), (1.0, 3.0, 0.9), (1.0, 9.0, 0.1)):
        first = 1 + high * magnitude / 9 if probability else 1
        expected = 0.5 * first * (1 + high * magnitude / 30)
        np.testing.assert_allclose(searched(probability, magnitude, high), expected, rtol=1e-5)
    assert len(traces) == 1
    many = jax.vmap(searched, in_axes=(0, None, None))(jnp.array([0.0, 1.0]), 3.0, 0.9)
    np.testing.assert_allclose(many[1, 0, 0, 0] / many[0, 0, 0, 0], 1.3, rtol=1e-5)


POLICIES = {
    "rand_augment": augment.rand_augment,
    "trivial_augment": augment.trivial_augment,
    "auto_augment": partial(augment.auto_augment, policy=augment.IMAGENET_POLICY),
    "aug_mix": augment.aug_mix,
}


@pytest.mark.parametrize("name", POLICIES)
def test_shape_and_dtype_are_kept_and_levels_refused(name):
    policy = POLICIES[name]
    for shape in ((7, 4, 1), (2, 3, 5, 3), (0, 5, 4, 3), (2, 2, 4, 4, 3)):
        for dtype in (jnp.float32, jnp.bfloat16):
            y = jax.eval_shape(policy, KEY, jax.ShapeDtypeStruct(shape, dtype))
            assert (y.shape, y.dtype) == (shape, dtype)
    with pytest.raises(TypeError, match=r"`image` must have .*augment\.to_float\(image\)"):
        policy(KEY, jnp.asarray(LEVELS))
    if name != "aug_mix":  # It has no operation on colors.
        with pytest.raises(ValueError, match=r"`image` must have one channel or three"):
            jax.eval_shape(policy, KEY, jnp.ones((4, 4, 2)))
    with pytest.raises(TypeError, match=r"`key` must be"):
        policy(3, jnp.ones((4, 4, 3)))


@pytest.mark.parametrize(
    "name", ["rand_augment", *(pytest.param(n, marks=pytest.mark.slow) for n in [*POLICIES][1:])]
)
@pytest.mark.parametrize("channels", [3, pytest.param(1, marks=pytest.mark.slow)])
def test_whole_policies_keep_the_range_with_finite_gradients(name, channels):
    """On black, grey and white images and on one of all kinds of levels, none square."""
    plain = np.stack([np.full((6, 5, channels), v) for v in (0.0, 0.5, 1.0)] * 8)
    images = jnp.asarray(np.concatenate([plain, [LEVELS[:6, :5, :channels] / 255] * 96]))

    @jax.jit
    def run(images):
        y, pullback = jax.vjp(partial(POLICIES[name], KEY), images)
        return y, pullback(jnp.cos(jnp.arange(y.size, dtype=y.dtype)).reshape(y.shape))[0]

    y, gradient = run(images.astype(jnp.float32))
    assert jnp.all((y >= 0) & (y <= 1))
    assert jnp.isfinite(gradient).all()
    assert jnp.any(gradient != 0)
    # The same image 96 times: each has draws of its own, of which some agree.
    assert len({one.tobytes() for one in np.asarray(y[24:])}) > 12


@pytest.mark.slow
@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=str)
def test_policies_are_the_same_on_eight_devices(kind):
    images = 0.5 + 0.4 * jnp.sin(jnp.arange(16.0 * 8 * 6 * 3)).reshape(16, 8, 6, 3)
    mesh = jax.make_mesh((8,), ("device",), axis_types=(kind,))
    for policy in (augment.rand_augment, augment.auto_augment):
        expected = jax.jit(policy)(KEY, images)
        with jax.set_mesh(mesh):
            sharded = jax.device_put(images, NamedSharding(mesh, PartitionSpec("device")))
            compiled = jax.jit(policy).lower(KEY, sharded).compile()
            y = compiled(KEY, sharded)
        np.testing.assert_allclose(y, expected, atol=2e-6)
        for collective in ("all-gather(", "all-reduce(", "all-to-all(", "collective-permute("):
            assert collective not in compiled.as_text()


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (TypeError, {"number": 1.5}, r"`number` must be an integer, got float"),
        (ValueError, {"number": -1}, r"`number` must be zero or positive, got -1"),
        (
            ValueError,
            {"operations": [augment.Operation(lambda x, s: x[:1])]},
            r"keep the sh",
        ),
        (ValueError, {"width": 0}, r"`width` must be positive, got 0"),
        (ValueError, {"depth": 3}, r"`depth` must be a pair \(least, largest\), got 3"),
        (ValueError, {"depth": (3, 1)}, r"`depth` must rise from 1 or more, got \(3, 1\)"),
        (ValueError, {"alpha": -1.0}, r"`alpha` must be zero or positive, got -1\.0"),
        (ValueError, {"policy": [[augment.Step(LIGHT, 2.0, 3)]]}, r"`probability` must be a prob"),
        (
            ValueError,
            {"policy": [[augment.Step(LIGHT, 1.0, 10)]]},
            r"`magnitude` .*\[0, 9\], got",
        ),
    ],
)
def test_what_cannot_be_is_named(kind, options, message):
    name = next(iter(options))
    mixes = name in ("width", "depth", "alpha")
    function = augment.aug_mix if mixes else augment.rand_augment
    function = augment.auto_augment if name == "policy" else function
    with pytest.raises(kind, match=message):
        function(KEY, jnp.ones((4, 4, 4, 3)), **options)
