"""Changes of a batch by a recipe, before the model sees it."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg import augment, dropout, noise
from jaxreg.augment import series
from jaxreg.study import Recipe, inputs, sentences
from jaxreg.study.technique_rows import TECHNIQUES

KEY = jax.random.wrap_key_data(np.array([0, 3], np.uint32))
MODULES = {"augment": augment, "series": series, "noise": noise, "dropout": dropout, "jnp": jnp}
SHAPES = {"table": (5, 4), "series": (5, 9, 2), "image": (5, 4, 5, 2)}


def some_batch(shape=SHAPES["image"]):
    x = np.cos(np.arange(math.prod(shape), dtype=np.float32)).reshape(shape)
    scale = np.linspace(0.5, 1.5, math.prod(shape[1:]), dtype=np.float32).reshape(shape[1:])
    return inputs.Batch(x, np.arange(shape[0], dtype=np.int32) % 3, scale, 2 * scale, 3)


def batch_for(name):
    """A batch of the first kind of rows that an arm is for."""
    kinds = next(each.kinds for each in TECHNIQUES if each.name == name)
    if kinds == ("text",):
        return some_batch()._replace(x=np.arange(60, dtype=np.int32).reshape(5, 12) % 7)
    return some_batch(SHAPES[kinds[0]])


def written(name, batch, strength):
    """The batch after the lines for a program ran."""
    names = {**MODULES, "key": KEY, **batch._asdict()}
    exec(inputs.INPUTS[name].code.format(key="key", strength=strength, num_classes=3), names)
    return names["x"], names["labels"]


@pytest.mark.parametrize("name", inputs.INPUTS)
def test_the_program_changes_a_batch_as_the_study_does(name):
    batch = batch_for(name)

    @jax.jit
    def ways(x, labels):
        traced = batch._replace(x=x, labels=labels)
        return inputs.INPUTS[name].change(KEY, traced, 0.4), written(name, traced, 0.4)

    (expected, labels), found = ways(batch.x, batch.labels)
    np.testing.assert_allclose(found[0], expected, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(found[1], labels, rtol=1e-6)
    assert (np.asarray(expected) != batch.x).any()
    assert expected.dtype == batch.x.dtype
    assert labels.ndim == (2 if name in inputs.MIXING else 1)
    assert inputs.change_batch(KEY, Recipe(**{name: 0.5}), (), batch) is batch


@pytest.mark.parametrize("name", [n for n in inputs.INPUTS if n not in inputs.MIXING])
def test_a_traced_strength_of_zero_changes_nothing(name):
    batch = batch_for(name)

    @jax.jit
    def change(x, strength):
        recipe = Recipe(**{name: strength})
        return inputs.change_batch(KEY, recipe, (name,), batch._replace(x=x)).x

    np.testing.assert_allclose(change(batch.x, np.float32(0)), batch.x, rtol=1e-6, atol=1e-6)


def changed(batch, **strengths):
    """The batch as a recipe of these strengths changes it, by one program."""
    recipe = Recipe(**strengths)

    @jax.jit
    def change(x):
        found = inputs.change_batch(KEY, recipe, recipe.structure, batch._replace(x=x))
        return found.x, found.labels

    found, labels = change(batch.x)
    return batch._replace(x=np.asarray(found), labels=np.asarray(labels))


def test_words_become_unknown_at_their_rate_and_padding_stays():
    x = np.tile(np.array([3, 5, 2, 0], np.int32), (4000, 1))
    found = changed(some_batch()._replace(x=x), token_dropout=0.3)
    unknown = found.x == sentences.UNKNOWN
    assert (found.x[:, 3] == sentences.PADDING).all()
    assert ((found.x == x) | unknown).all()
    error = math.sqrt(0.3 * 0.7 / 12000)
    np.testing.assert_allclose(unknown[:, :3].mean(), 0.3, atol=5 * error)


@pytest.mark.parametrize(("level", "name"), [(0.0, "magnitude_warp"), (2.0, "time_warp")])
def test_series_are_warped_as_they_were_measured(level, name):
    """The scales of the features do not show: a constant stays one in time, zero stays zero."""
    batch = some_batch((5, 9, 2))
    flat = np.zeros_like(batch.x) + (level - batch.mean) / batch.stddev
    found = changed(batch._replace(x=flat), **{name: 0.5})
    np.testing.assert_allclose(found.x * batch.stddev + batch.mean, level, atol=1e-5)


def test_images_are_moved_as_they_were_before_standardizing():
    """A picture of zeros but for its middle stays one, whatever the scale of its pixels."""
    batch = some_batch((5, 9, 9, 1))
    pixels = np.zeros((5, 9, 9, 1), np.float32)
    pixels[:, 3:6, 3:6] = 1.0
    found = changed(batch._replace(x=(pixels - batch.mean) / batch.stddev), augmentation=0.1)
    moved = found.x * batch.stddev + batch.mean
    np.testing.assert_allclose(moved[:, [0, -1]], 0, atol=1e-6)
    np.testing.assert_allclose(moved[:, :, [0, -1]], 0, atol=1e-6)
    assert (abs(moved - pixels).max(axis=(1, 2, 3)) > 0.05).all()
    np.testing.assert_allclose(moved.sum(axis=(1, 2, 3)), 9, atol=2.5)


def test_a_cutout_takes_its_share_of_the_sides_and_puts_the_mean_there():
    batch = some_batch((200, 8, 6, 1))._replace(x=np.ones((200, 8, 6, 1), np.float32))
    erased = (changed(batch, cutout=0.5).x == 0).sum(axis=(1, 2, 3))
    assert (erased.min() >= 2) & (erased.max() == 4 * 3)


def test_changes_come_in_their_order_with_keys_and_strengths_of_their_own(monkeypatch):
    """Mixing comes last: it is of whole examples as the model would see them."""
    order = ["augmentation", "cutout", "magnitude_warp", "time_warp", "jitter", "token_dropout"]
    assert list(inputs.INPUTS) == [*order, "cutmix", "mixup"]
    assert set(inputs.MIXING) == {"cutmix", "mixup"}
    calls = []

    def fake(name):
        def change(key, batch, strength):
            calls.append((name, tuple(jax.random.key_data(key).tolist()), strength))
            return batch.x + len(calls), batch.labels + 1

        return inputs.Input(change, "")

    monkeypatch.setattr(inputs, "INPUTS", {name: fake(name) for name in inputs.INPUTS})
    batch = some_batch()
    recipe = Recipe(mixup=0.4, cutout=0.2, jitter=0.3)
    found = inputs.change_batch(KEY, recipe, ("mixup", "jitter", "dropout", "cutout"), batch)
    assert [(name, strength) for name, _, strength in calls] == [
        ("cutout", 0.2), ("jitter", 0.3), ("mixup", 0.4),
    ]  # fmt: skip
    assert len({key for _, key, _ in calls}) == 3
    np.testing.assert_array_equal(found.x, batch.x + 1 + 2 + 3)
    np.testing.assert_array_equal(found.labels, batch.labels + 3)
    assert found.num_classes == 3
    # A technique draws from the same key whatever else is on.
    inputs.change_batch(KEY, recipe, ("mixup",), batch)
    assert calls[-1] == calls[-2]
