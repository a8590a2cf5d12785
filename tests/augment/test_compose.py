"""Composition: chances and choices are met, and every member has a key of its own."""

from functools import partial

import jax
import numpy as np
import pytest
from scipy import stats

from jaxreg import augment, targets
from tests.augment.helpers import (
    KEY,
    assert_as_likely,
    assert_distribution,
    assert_independent,
    different,
)
from tests.helpers import assert_rate

IMAGES = np.full((4000, 1, 2, 3), 0.5, np.float32)
PIXELS = np.array([[0.5, 0.3, 0.2], [0.3, 0.4, 0.35]], np.float32)
light = partial(augment.random_brightness, amount=0.5)


def shifted(key, image, *, by):
    """Adds a number, and counts the members that have come before tenfold."""
    del key
    return 10 * image + by


def test_a_sequence_runs_in_order_with_keys_of_their_own():
    three = augment.sequence(*[partial(shifted, by=i) for i in (1, 2, 3)])
    np.testing.assert_array_equal(three(KEY, np.zeros((1, 1, 1))), [[[123]]])
    seen = []

    def noted(key, image):
        seen.append(jax.random.key_data(key))
        return image

    keys = jax.jit(lambda x: (augment.sequence(noted, noted, noted)(KEY, x), [*seen])[1])(IMAGES)
    assert len({np.asarray(key).tobytes() for key in keys}) == 3
    # Of two members that draw alike the factors are independent.
    images = np.stack([PIXELS[None]] * 4000)
    both = augment.sequence(partial(augment.random_contrast, amount=0.3), light)
    y = np.asarray(jax.jit(both)(KEY, images), np.float64)[:, 0]
    luma = y @ np.array([0.299, 0.587, 0.114])
    own = (PIXELS @ np.array([0.299, 0.587, 0.114])).astype(np.float64)
    brightness = luma.mean(1) / own.mean()
    contrast = (luma[:, 0] - luma[:, 1]) / (own[0] - own[1]) / brightness
    assert_distribution(brightness, stats.uniform(0.5, 1))
    assert_distribution(contrast, stats.uniform(0.7, 0.6))
    assert_independent(brightness, contrast)


def test_chances_are_met_for_each_example_and_apart_from_the_parameters():
    """augmax draws the chance and the angle from one key: its angles never are positive."""
    some = augment.with_probability(light, probability=0.3)
    y = np.asarray(jax.jit(some)(KEY, IMAGES), np.float64)[:, 0, 0, 0]
    changed = y != 0.5
    assert_rate(changed.mean(), 0.3, 4000)
    assert_distribution(y[changed], stats.uniform(0.25, 0.5))
    for probability, number in ((0.0, 0), (1.0, 4000)):
        surely = augment.with_probability(light, probability=probability)
        assert (np.asarray(jax.jit(surely)(KEY, IMAGES)) != 0.5).any(axis=(1, 2, 3)).sum() == number


def test_one_of_some_has_the_same_chance_and_a_key_of_its_own():
    either = augment.one_of(*[lambda key, x, i=i: x + i for i in range(3)], light)
    y = np.asarray(jax.jit(either)(KEY, IMAGES), np.float64)[:, 0, 0, 0]
    kinds = np.where(y > 2, 3, np.where(y == 1.5, 2, np.where(y == 0.5, 1, 0)))
    assert_as_likely(kinds[:, None], 4)
    assert_distribution(y[kinds == 0], stats.uniform(0.25, 0.5))
    one = jax.jit(augment.one_of(lambda key, x: x + 2))
    assert (np.asarray(one(KEY, IMAGES)) == 2.5).all()


def test_the_members_of_a_choice_have_keys_of_their_own():
    seen = []

    def noted(key, image):
        seen.append(jax.random.key_data(key))
        return image

    keys = jax.jit(lambda x: (augment.one_of(noted, noted, noted)(KEY, x), [*seen])[1])(IMAGES)
    assert len({np.asarray(key).tobytes() for key in keys}) == 3


def test_shapes_and_dtypes_have_to_be_kept_where_results_are_chosen_from():
    crop = partial(augment.random_crop, size=(1, 1))
    same = light
    for other in (crop, lambda key, x: x.astype("float16")):
        for composed in (
            augment.with_probability(other, probability=0.5),
            augment.one_of(other, same),
            augment.one_of(same, other),
        ):
            with pytest.raises(ValueError, match=r"`function` must keep the shape and dtype"):
                jax.eval_shape(composed, KEY, IMAGES)


def test_for_each_maps_a_function_of_one_image():
    images = np.zeros((5, 2, 2, 1), np.float32)
    labels = np.arange(5.0, dtype=np.float32)

    @jax.jit
    def run(images, labels):
        added = augment.for_each(lambda key, x, label: x + label)(KEY, images, labels)
        return added, augment.for_each(lambda key, x: x + jax.random.uniform(key))(KEY, images)

    added, noisy = run(images, labels)
    np.testing.assert_array_equal(added[:, 0, 0, 0], labels)
    assert different(noisy) == 5
    assert len(np.unique(noisy)) == 5


def test_a_probability_beyond_1_is_named():
    with pytest.raises(ValueError, match=r"`probability` must be a probability in \[0, 1\]"):
        augment.with_probability(light, probability=2.0)


@pytest.mark.parametrize(
    "composed",
    [
        augment.sequence(light),
        augment.one_of(light),
        augment.with_probability(light, probability=0.5),
        augment.for_each(light),
    ],
    ids=["sequence", "one_of", "with_probability", "for_each"],
)
def test_a_key_has_to_be_given(composed):
    with pytest.raises(TypeError, match=r"`key` must be"):
        composed(3, IMAGES)


def test_a_switch_takes_each_example_from_one_of_two():
    images = np.zeros((2000, 3, 5, 2), np.float32)
    images[::2] = 1

    @jax.jit
    def run(x, labels, probability):
        mixup = partial(
            augment.random_mixup, alpha=1.0, num_classes=5, partners=augment.partners.reverse
        )
        cutmix = partial(
            augment.random_cutmix, alpha=1.0, num_classes=5, partners=augment.partners.reverse
        )
        return augment.switch(mixup, cutmix, probability=probability)(KEY, x, labels)

    labels = np.arange(2000) % 2
    mixed = run(images, labels, 0.3)
    np.testing.assert_allclose(mixed.x.mean((1, 2, 3)), mixed.labels[:, 0], atol=1e-6)
    np.testing.assert_allclose(mixed.share, mixed.labels[np.arange(2000), labels], atol=1e-6)
    values = np.asarray(mixed.x)
    whole = (values.min((1, 2, 3)) == 0) & (values.max((1, 2, 3)) == 1)
    even = abs(np.ptp(values, axis=(1, 2, 3))) < 1e-6
    assert (whole | even).all()
    # CutMix leaves one in three untouched or pastes all; what is in between tells the two apart.
    assert_rate((even & (values[:, 0, 0, 0] % 1 > 0)).mean(), 0.7, 2000)
    for probability in (0.0, 1.0):
        values = np.asarray(run(images, labels, probability).x)
        assert (values % 1 > 0).any() == (probability == 0)


def test_what_a_switch_returns_goes_into_a_loss_with_smoothing():
    """timm's default: mixup or CutMix, and a smoothed cross entropy of the distributions."""
    x = np.sin(np.arange(16 * 3 * 5 * 2, dtype=np.float32)).reshape(16, 3, 5, 2)
    logits = np.cos(np.arange(16 * 5.0, dtype=np.float32)).reshape(16, 5)

    @jax.jit
    def run(x, logits):
        mix = augment.switch(
            partial(augment.random_mixup, alpha=0.8, num_classes=5),
            partial(augment.random_cutmix, alpha=1.0, num_classes=5),
            probability=0.5,
        )
        mixed = mix(KEY, x, np.arange(16) % 5)
        return mixed, targets.smoothed_cross_entropy(logits, mixed.labels, alpha=0.1)

    mixed, loss = run(x, logits)
    logs = logits - np.log(np.exp(logits.astype(np.float64)).sum(-1, keepdims=True))
    smooth = 0.9 * np.asarray(mixed.labels, np.float64) + 0.1 / 5
    np.testing.assert_allclose(loss, -np.mean(np.sum(smooth * logs, axis=-1)), rtol=1e-5)


def test_a_switch_needs_two_of_a_kind():
    with pytest.raises(ValueError, match=r"`probability` must be .* got 1\.5"):
        augment.switch(None, None, probability=1.5)
    kinds = (augment.random_mixup, augment.random_cutmix)
    mix = augment.switch(
        *(partial(k, alpha=1.0, num_classes=n) for k, n in zip(kinds, (5, 4), strict=True)),
        probability=0.5,
    )
    message = r"`second` must return what `first` returns.*pass both the same `num_classes`"
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(mix, KEY, np.ones((4, 3, 5, 2), np.float32), np.arange(4))
