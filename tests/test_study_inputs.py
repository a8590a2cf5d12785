"""Kinds of rows, and what a recipe does to a batch before the model sees it."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg import augment, dropout, noise, targets
from jaxreg.augment import series
from jaxreg.study import Recipe, data, inputs, models, run, runner, sentences
from jaxreg.study.technique_rows import TECHNIQUES
from tests.studies import KINDS, blobs


@pytest.mark.parametrize("name", KINDS)
def test_the_shape_of_a_row_tells_its_kind(name):
    assert data.kind(KINDS[name][0](0).train_x) == name


@pytest.mark.parametrize("shape", [(12,), (4, 3), (2, 3, 2)])
def test_rows_of_any_shape_are_standardized_and_lead_back(shape):
    x = np.arange(2400.0).reshape(200, *shape)
    split = data.stratified(x, np.arange(200) % 2, train_size=60)(0)
    np.testing.assert_allclose(split.train_x.mean(axis=0), np.zeros(shape), atol=1e-5)
    back = np.concatenate([split.train_x, split.validation_x, split.test_x])
    back = back * split.deviation + split.mean
    back = back[np.argsort(back.reshape(200, -1)[:, 0])]
    np.testing.assert_allclose(back, x, rtol=1e-4, atol=1e-2)


def test_the_data_sets_of_every_kind_have_the_shapes_of_their_tasks():
    for name, task in data.TASKS.items():
        split = task.load(train_size=100)(0)
        assert split.train_x.shape == (100, *(task.shape or split.train_x.shape[1:]))
        assert set(np.unique(split.train_y)) == set(range(task.num_classes))
        assert data.kind(split.train_x) == {
            "digits": "image", "digit_rows": "series", "text": "text"
        }.get(name, "table")  # fmt: skip
    rows = data.digit_rows(train_size=100)(3)
    images = data.digits(train_size=100)(3)
    np.testing.assert_array_equal(rows.test_x[..., None], images.test_x)


def test_sentences_say_what_their_labels_say():
    tokens, labels = sentences.sentences(500, seed=3, noise=0.0)
    good, bad = set(sentences._GOOD), set(sentences._BAD)
    assert not good & bad
    assert len(set(sentences.WORDS)) == len(sentences.WORDS)
    for row, label in zip(tokens, labels, strict=True):
        words = [sentences.WORDS[index] for index in row if index != sentences.PADDING]
        place = next(i for i, word in enumerate(words) if word in good | bad)
        assert label == ((words[place] in good) != ("not" in words[:place]))
        assert (row[len(words) :] == sentences.PADDING).all()
    assert sentences.UNKNOWN not in tokens
    assert 0.4 < labels.mean() < 0.6
    other, noisy = sentences.sentences(500, seed=3, noise=1.0)
    np.testing.assert_array_equal(other, tokens)
    np.testing.assert_array_equal(noisy, 1 - labels)
    # The longest sentence is not cut.
    assert (tokens[:, -1] != sentences.PADDING).any()
    assert "not" in sentences.WORDS


def test_rows_of_other_shapes_raise():
    with pytest.raises(ValueError, match=r"Rows must be one of table .*, got shape \(\)"):
        data.kind(np.ones(3))
    with pytest.raises(ValueError, match=r"may also be a series .time, channels. or an image"):
        data.stratified(np.ones((200, 1, 1, 1, 1)), np.arange(200) % 2, train_size=60)


def test_a_recipe_for_other_rows_raises():
    message = r"`recipes` must suit the rows, here a table of shape \(3,\), but cutout is for image"
    with pytest.raises(ValueError, match=message):
        run(
            models.mlp((8,), 2), blobs, [Recipe(), Recipe(cutout=0.5, mixup=1.0)], seeds=2, epochs=1
        )


def test_mixed_labels_are_trained_as_the_two_parts_of_them():
    """Cross entropy against distributions is that of :func:`jaxreg.targets.mixed_cross_entropy`."""
    logits = jnp.sin(jnp.arange(12.0)).reshape(4, 3)
    a, b, lam = jnp.array([0, 1, 2, 1]), jnp.array([2, 1, 0, 0]), jnp.array([1.0, 0.3, 0.5, 0.8])
    rows = lam[:, None] * jax.nn.one_hot(a, 3) + (1 - lam[:, None]) * jax.nn.one_hot(b, 3)
    for alpha in (0.0, 0.2):
        expected = targets.mixed_cross_entropy(logits, a, b, lam=lam, alpha=alpha)
        found = runner._cross_entropy(logits, rows, jnp.asarray(alpha))
        np.testing.assert_allclose(found, expected, rtol=1e-6)
        plain = targets.smoothed_cross_entropy(logits, a, alpha=alpha)
        np.testing.assert_array_equal(runner._cross_entropy(logits, a, alpha), plain)


def _batch(shape=(5, 4, 5, 2)):
    x = jnp.cos(jnp.arange(math.prod(shape), dtype=jnp.float32)).reshape(shape)
    scale = jnp.linspace(0.5, 1.5, math.prod(shape[1:])).reshape(shape[1:])
    return inputs.Batch(x, jnp.arange(shape[0]) % 3, scale, 2 * scale, 3)


def _batch_for(name):
    """A batch of the first kind of rows that an arm is for."""
    kinds = next(each.kinds for each in TECHNIQUES if each.name == name)
    if kinds == ("text",):
        return _batch()._replace(x=jnp.arange(60).reshape(5, 12) % 7)
    return _batch({"table": (5, 4), "series": (5, 9, 2), "image": (5, 4, 5, 2)}[kinds[0]])


@pytest.mark.parametrize("name", inputs.INPUTS)
@pytest.mark.slow
def test_what_acts_on_a_batch_is_off_at_zero(name):
    batch = _batch_for(name)
    off = Recipe(**{name: jnp.zeros(())})
    same = inputs.changed(jax.random.key(0), off, (name,), batch)
    np.testing.assert_array_equal(same.x, batch.x)
    labels = same.labels if same.labels.ndim == 1 else same.labels.argmax(axis=1)
    np.testing.assert_array_equal(labels, batch.labels)
    assert inputs.changed(jax.random.key(0), off, (), batch) is batch


@pytest.mark.parametrize("name", inputs.INPUTS)
def test_the_program_changes_a_batch_as_the_study_does(name):
    batch, arm = _batch_for(name), inputs.INPUTS[name]
    modules = {"augment": augment, "series": series, "noise": noise, "dropout": dropout}
    names = {**modules, "jnp": jnp, "key": jax.random.key(3), **batch._asdict()}
    exec(arm.code.format(key="key", strength=0.4, num_classes=3), names)
    expected, labels = arm.change(jax.random.key(3), batch, 0.4)
    np.testing.assert_array_equal(names["x"], expected)
    np.testing.assert_array_equal(names["labels"], labels)
    assert (expected != batch.x).any()
    assert expected.dtype == batch.x.dtype


def test_words_become_unknown_at_their_rate_and_padding_stays():
    x = jnp.tile(jnp.array([3, 5, 2, 0]), (4000, 1))
    batch = _batch()._replace(x=x)
    found = inputs.changed(jax.random.key(0), Recipe(token_dropout=0.3), ("token_dropout",), batch)
    unknown = found.x == sentences.UNKNOWN
    assert (found.x[:, 3] == sentences.PADDING).all()
    assert ((found.x == x) | unknown).all()
    error = math.sqrt(0.3 * 0.7 / 12000)
    np.testing.assert_allclose(unknown[:, :3].mean(), 0.3, atol=5 * error)


def test_series_are_warped_as_they_were_measured():
    """The scales of the features do not show: a constant stays one in time, and zero stays zero."""
    batch = _batch((5, 9, 2))
    for level, name in ((3.0, "time_warp"), (0.0, "magnitude_warp")):
        flat = batch._replace(x=(level - batch.mean) / batch.deviation + 0 * batch.x)
        found = inputs.changed(jax.random.key(0), Recipe(**{name: 0.5}), (name,), flat)
        np.testing.assert_allclose(found.x * batch.deviation + batch.mean, level, atol=1e-5)


def test_images_are_moved_as_they_were_before_standardizing():
    """A picture of zeros but for its middle stays one, whatever the scale of its pixels."""
    batch = _batch((5, 9, 9, 1))
    pixels = jnp.zeros((5, 9, 9, 1)).at[:, 3:6, 3:6].set(1.0)
    batch = batch._replace(x=(pixels - batch.mean) / batch.deviation)
    found = inputs.changed(jax.random.key(0), Recipe(augmentation=0.1), ("augmentation",), batch)
    moved = found.x * batch.deviation + batch.mean
    np.testing.assert_allclose(moved[:, [0, -1]], 0, atol=1e-6)
    np.testing.assert_allclose(moved[:, :, [0, -1]], 0, atol=1e-6)
    assert (abs(moved - pixels).max(axis=(1, 2, 3)) > 0.05).all()
    np.testing.assert_allclose(moved.sum(axis=(1, 2, 3)), 9, atol=2.5)


def test_a_cutout_takes_its_share_of_the_sides_and_puts_the_mean_there():
    batch = _batch((200, 8, 6, 1))._replace(x=jnp.ones((200, 8, 6, 1)))
    found = inputs.changed(jax.random.key(0), Recipe(cutout=0.5), ("cutout",), batch).x
    erased = (found == 0).sum(axis=(1, 2, 3))
    assert (erased.min() >= 2) & (erased.max() == 4 * 3)


def test_several_changes_draw_from_keys_of_their_own():
    batch = _batch()
    both = inputs.changed(
        jax.random.key(0), Recipe(cutmix=1.0, mixup=1.0), ("mixup", "cutmix"), batch
    )
    first = inputs.changed(jax.random.key(0), Recipe(cutmix=1.0), ("cutmix",), batch)
    assert both.labels.shape == first.labels.shape == (5, 3)
    np.testing.assert_allclose(both.labels.sum(axis=1), 1, rtol=1e-6)
    # Mixup is the last one: it mixes what CutMix left.
    second = inputs.changed(jax.random.key(0), Recipe(mixup=1.0), ("mixup",), first)
    np.testing.assert_array_equal(both.x, second.x)
    shared, _ = inputs.INPUTS["mixup"].change(jax.random.key(0), first, 1.0)
    assert (second.x != shared).any()
