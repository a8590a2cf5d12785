"""Changes of a batch, before the model sees it."""

import math

import jax
import numpy as np
import pytest

from jaxreg import augment
from jaxreg.study import arms
from jaxreg.study.arms.row import BatchChange
from jaxreg.study.batch import Batch, change
from jaxreg.study.data import sentences

KEY = jax.random.wrap_key_data(np.array([0, 3], np.uint32))
SHAPES = {"table": (5, 4), "series": (5, 9, 2), "image": (5, 4, 5, 2)}
CHANGES = {arm.name: arm for arm in arms.acting(BatchChange)}
MIXING = ("cutmix", "mixup")
# Two of its operations have no strength.
NEVER_OFF = ("rand_augment",)


def batch_of(kind):
    """Rows as a program sees them: standardized, with labels of three classes."""
    if kind == "text":
        x = np.arange(60, dtype=np.int32).reshape(5, 12) % 7
        return Batch(x, np.arange(5) % 3, np.float32(0), np.float32(1), 3)
    shape = SHAPES[kind]
    x = np.cos(np.arange(math.prod(shape), dtype=np.float32)).reshape(shape)
    scale = np.linspace(0.5, 1.5, math.prod(shape[1:]), dtype=np.float32).reshape(shape[1:])
    return Batch(x, np.arange(5, dtype=np.int32) % 3, scale, 2 * scale, 3)


def apply(name, batch, strength):
    """The batch after one change, by one program."""

    @jax.jit
    def run(x, labels, strength):
        found = change(CHANGES[name].acts, KEY, batch._replace(x=x, labels=labels), strength)
        return found.x, found.labels

    x, labels = jax.device_get(run(batch.x, batch.labels, np.float32(strength)))
    return batch._replace(x=x, labels=labels)


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_changes_rows_and_none_at_strength_zero(name):
    arm = CHANGES[name]
    batch = batch_of(arm.kinds[0])
    strengths = np.float32([0.0, arm.grid.high])

    @jax.jit
    def both(x, strengths):
        def one(strength):
            found = change(arm.acts, KEY, batch._replace(x=x), strength)
            return found.x, found.labels

        return jax.lax.map(one, strengths)

    (same, moved), (_, labels) = jax.device_get(both(batch.x, strengths))
    assert moved.dtype == batch.x.dtype
    assert moved.shape == batch.x.shape
    assert (abs(moved - batch.x) > 1e-3).any()
    if name not in NEVER_OFF:
        np.testing.assert_allclose(same, batch.x, rtol=1e-5, atol=1e-5)
    if name in MIXING:
        np.testing.assert_allclose(labels.sum(axis=1), 1, rtol=1e-5)
        assert (labels.max(axis=1) < 0.999).any()
    else:
        np.testing.assert_array_equal(labels, batch.labels)


@pytest.mark.parametrize("name", ["augmentation", "random_crop", "rand_augment"])
def test_a_scale_for_each_channel_is_enough(name):
    """An image with its mean and deviation by channel is the one with the same ones by pixel."""
    batch = batch_of("image")
    channels = np.float32([0.5, 1.5])
    pixels = np.broadcast_to(channels, batch.x.shape[1:])
    strength = CHANGES[name].grid.low

    @jax.jit
    def both(x):
        return [
            change(CHANGES[name].acts, KEY, batch._replace(x=x, mean=m, stddev=2 * m), strength).x
            for m in (channels, pixels)
        ]

    found, want = both(batch.x)
    np.testing.assert_allclose(found, want, rtol=1e-5, atol=1e-5)


def test_words_become_unknown_at_their_rate_and_padding_stays():
    x = np.tile(np.array([3, 5, 2, 0], np.int32), (4000, 1))
    found = apply("token_dropout", batch_of("text")._replace(x=x), 0.3).x
    unknown = found == sentences.UNKNOWN
    assert (found[:, 3] == sentences.PADDING).all()
    assert ((found == x) | unknown).all()
    error = math.sqrt(0.3 * 0.7 / 12000)
    np.testing.assert_allclose(unknown[:, :3].mean(), 0.3, atol=5 * error)


@pytest.mark.parametrize(("level", "name"), [(0.0, "magnitude_warp"), (2.0, "time_warp")])
def test_series_are_warped_as_they_were_measured(level, name):
    """The scales of the features do not show: a constant stays one in time, zero stays zero."""
    batch = batch_of("series")
    flat = np.zeros_like(batch.x) + (level - batch.mean) / batch.stddev
    found = apply(name, batch._replace(x=flat), 0.5).x
    np.testing.assert_allclose(found * batch.stddev + batch.mean, level, atol=1e-5)


@pytest.mark.parametrize("name", ["augmentation", "random_crop"])
def test_images_are_moved_as_they_were_before_standardizing(name):
    """A picture of zeros but for its middle stays one, whatever the scale of its pixels."""
    scale = np.linspace(0.5, 1.5, 81, dtype=np.float32).reshape(9, 9, 1)
    pixels = np.zeros((5, 9, 9, 1), np.float32)
    pixels[:, 3:6, 3:6] = 1.0
    batch = Batch((pixels - scale) / (2 * scale), np.arange(5), scale, 2 * scale, 5)
    found = apply(name, batch, 0.1 if name == "augmentation" else 0.34).x
    moved = found * batch.stddev + batch.mean
    if name == "augmentation":
        np.testing.assert_allclose(moved[:, [0, -1]], 0, atol=1e-6)
        np.testing.assert_allclose(moved[:, :, [0, -1]], 0, atol=1e-6)
        assert (abs(moved - pixels).max(axis=(1, 2, 3)) > 0.05).all()
        np.testing.assert_allclose(moved.sum(axis=(1, 2, 3)), 9, atol=2.5)
        return
    # A crop moves by whole pixels, by up to a third of the sides, so that all nine remain.
    np.testing.assert_allclose(np.sort(moved, axis=None)[-45:], 1, atol=1e-5)
    np.testing.assert_allclose(np.sort(moved, axis=None)[:-45], 0, atol=1e-5)
    rows = moved.max(axis=(2, 3)).argmax(axis=1)
    columns = moved.max(axis=(1, 3)).argmax(axis=1)
    assert len({*zip(rows.tolist(), columns.tolist(), strict=True)}) > 2
    assert (abs(rows - 3).max() <= 3) & (abs(columns - 3).max() <= 3)
    assert (rows != columns).any()


@pytest.mark.parametrize(
    ("name", "function", "want"),
    [
        ("augmentation", "random_affine", {"degrees": 9.0, "shift": 0.4, "scale": 0.1}),
        ("cutout", "random_cutout", {"height": 0.4, "width": 0.5}),
        ("rand_augment", "rand_augment", {"magnitude": 0.1}),
    ],
)
def test_strengths_are_shares_of_90_degrees_and_of_the_sides(name, function, want, monkeypatch):
    given = {}

    def record(key, image, **options):
        given.update(options)
        return image

    monkeypatch.setattr(augment, function, record)
    change(CHANGES[name].acts, KEY, batch_of("image"), 0.1)
    assert given == pytest.approx(want)


def test_a_crop_moves_by_up_to_its_share_of_the_sides():
    x = np.zeros((2000, 4, 10, 1), np.float32)
    x[:, 2, 5] = 1.0
    batch = Batch(x, np.arange(2000), np.float32(0), np.float32(1), 1)
    found = apply("random_crop", batch, 0.25).x
    assert (found.sum(axis=(1, 2, 3)) == 1).all()
    rows = found.max(axis=(2, 3)).argmax(axis=1)
    columns = found.max(axis=(1, 3)).argmax(axis=1)
    assert set(rows) == {1, 2, 3}
    assert set(columns) == {3, 4, 5, 6, 7} | set(columns) & {2, 8}
    error = np.sqrt(0.5 * 0.5 / 2000)
    np.testing.assert_allclose((rows == 2).mean(), 0.5, atol=5 * error)


def test_random_operations_get_images_from_zero_to_one():
    """Contrast that is stretched twice is unchanged at magnitude 0, and a constant image stays."""
    x = np.zeros((3, 4, 4, 1), np.float32) + 7
    batch = Batch(x, np.arange(3), np.float32(1), np.float32(2), 3)
    np.testing.assert_allclose(apply("rand_augment", batch, 15.0).x, 7, atol=1e-5)
    scale = np.float32([100.0])
    pixels = np.cos(np.arange(48, dtype=np.float32)).reshape(3, 4, 4, 1) * 127 + 128
    wide = Batch((pixels - scale) / scale, np.arange(3), scale, scale, 3)
    small = Batch((pixels / 255 - scale / 255) / (scale / 255), np.arange(3), scale / 255,
                  scale / 255, 3)  # fmt: skip
    found = apply("rand_augment", wide, 9.0).x
    np.testing.assert_allclose(found, apply("rand_augment", small, 9.0).x, atol=0.05)
    moved = found * scale + scale
    assert moved.min() > pixels.min() - 0.1
    assert moved.max() < pixels.max() + 0.1
    assert abs(moved - pixels).max() > 10


def test_a_cutout_takes_its_share_of_the_sides_and_puts_the_mean_there():
    x = np.ones((200, 8, 6, 1), np.float32)
    found = apply("cutout", Batch(x, np.arange(200), np.float32(1), np.float32(2), 1), 0.5).x
    erased = (found == 0).sum(axis=(1, 2, 3))
    assert (erased.min() >= 2) & (erased.max() == 4 * 3)


def test_a_flip_mirrors_its_share_of_the_images():
    x = np.zeros((2000, 2, 3, 1), np.float32)
    x[:, 1, 2] = 1.0
    batch = Batch(x, np.arange(2000), np.float32(5), np.float32(3), 1)
    found = apply("random_flip", batch, 0.3).x[..., 0]
    mirrored = (found == x[:, :, ::-1, 0]).all(axis=(1, 2))
    assert (mirrored | (found == x[..., 0]).all(axis=(1, 2))).all()
    np.testing.assert_allclose(mirrored.mean(), 0.3, atol=5 * math.sqrt(0.3 * 0.7 / 2000))


def test_noise_has_its_deviation_in_standardized_rows():
    x = np.zeros((4000, 4), np.float32)
    batch = Batch(x, np.arange(4000), np.float32(5), np.float32(3), 1)
    found = apply("jitter", batch, 0.5).x
    np.testing.assert_allclose(found.std(), 0.5, rtol=5 / math.sqrt(2 * 16000))


def test_numbers_to_predict_are_mixed_as_their_rows():
    """Rows equal to their labels stay so; class ids become distributions of their number."""
    x = np.arange(64, dtype=np.float32)[:, None]
    batch = Batch(x, x[:, 0], np.float32(0), np.float32(1), None)
    found = apply("mixup", batch, 1.0)
    np.testing.assert_allclose(found.x[:, 0], found.labels, rtol=1e-5)
    assert (abs(found.labels - x[:, 0]) > 0.1).any()
