"""Functions of the user that rewrite sequences."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg.augment import text
from tests.augment.helpers import KEY
from tests.augment.text.helpers import assert_same_on_eight_devices
from tests.helpers import assert_rate, few

TOKENS = np.array([[5, 6, 7, 0], [8, 9, 0, 0], [0, 0, 0, 0], [5, 5, 5, 5]], np.int32)
WHERE = TOKENS != 0


def longer(key, tokens, where):
    """Every word twice, with a gap after it."""
    twice = jnp.stack([tokens, tokens, jnp.full_like(tokens, 77)], -1)
    there = jnp.stack([where, where, jnp.zeros_like(where)], -1)
    return twice.reshape(*tokens.shape[:-1], -1), there.reshape(*tokens.shape[:-1], -1)


def paraphrased(tokens, where=WHERE, function=longer, **options):
    """A paraphrase in NumPy, surely if not told."""
    options = {"probability": 1.0, "pad_id": 0} | options
    call = jax.jit(lambda x, w: text.paraphrase(KEY, x, function=function, where=w, **options))
    return map(np.asarray, call(tokens, where))


def shorter(key, tokens, where):
    return tokens[..., 1:2], where[..., 1:2] & (tokens[..., 1:2] != 9)


@few("dtype", [np.int16, np.int32, np.uint8])
def test_results_are_fitted_and_padded_again(dtype):
    tokens = TOKENS.astype(dtype)
    y, where = paraphrased(tokens, pad_id=3)
    assert y.dtype == dtype
    np.testing.assert_array_equal(y, [[5, 5, 6, 6], [8, 8, 9, 9], [0] * 4, [5] * 4])
    np.testing.assert_array_equal(where, [[True] * 4, [True] * 4, [False] * 4, [True] * 4])
    # What the function leaves nothing of stays, and so does padding.
    y, where = paraphrased(tokens, function=shorter, pad_id=3)
    np.testing.assert_array_equal(y, [[6, 3, 3, 3], [8, 9, 0, 0], [0] * 4, [5, 3, 3, 3]])
    np.testing.assert_array_equal(where.sum(1), [1, 2, 0, 1])


def test_padding_stays_whatever_is_made_of_it():
    def sevens(key, tokens, where):
        return jnp.full_like(tokens, 7), jnp.ones_like(where)

    y, where = paraphrased(TOKENS, function=sevens)
    np.testing.assert_array_equal(y, [[7] * 4, [7] * 4, [0] * 4, [7] * 4])
    np.testing.assert_array_equal(where.sum(1), [4, 4, 0, 4])


def test_sequences_are_chosen_one_by_one():
    tokens = np.tile(TOKENS, (1000, 1))
    where = tokens != 0
    options = {"function": longer, "pad_id": 0}
    # As arguments: constants would be folded, which takes the compiler long.
    call = jax.jit(
        lambda x, where, rate: text.paraphrase(KEY, x, where=where, probability=rate, **options)
    )
    y, kept = jax.device_get(call(tokens, where, 0.3))
    changed = (y != tokens).any(1).reshape(-1, 4)
    for column in (0, 1):
        assert_rate(changed[:, column].mean(), 0.3, 1000)
    both = changed[:, 0] & changed[:, 1]
    assert_rate(both.mean(), 0.09, 1000)
    np.testing.assert_array_equal(
        kept.sum(1) - where.sum(1), (y != tokens).any(1) * np.tile([1, 2, 0, 0], 1000)
    )
    for off in (0.0, -3.0):
        y, kept = call(tokens, where, off)
        np.testing.assert_array_equal(y, tokens)
        np.testing.assert_array_equal(kept, where)


def test_a_translation_goes_there_and_back_with_keys_of_its_own():
    seen = []

    def forward(key, tokens, where):
        seen.append(jax.random.key_data(key))
        return jnp.flip(tokens, -1).astype(jnp.int16) + 100, jnp.flip(where, -1)

    def backward(key, tokens, where):
        seen.append(jax.random.key_data(key))
        assert tokens.dtype == jnp.int16
        # Sentences of the foreign language end with the word of the other length.
        return tokens.astype(jnp.int32) - 100, where

    options = {"forward": forward, "backward": backward, "probability": 1.0, "pad_id": 0}

    @jax.jit
    def run(tokens, where):
        return text.back_translation(KEY, tokens, where=where, **options), [*seen]

    (y, where), keys = run(TOKENS, WHERE)
    np.testing.assert_array_equal(y, [[7, 6, 5, 0], [9, 8, 0, 0], [0] * 4, [5] * 4])
    np.testing.assert_array_equal(where, WHERE)
    assert len({np.asarray(key).tobytes() for key in keys}) == 2


@pytest.mark.exhaustive
def test_rows_are_the_same_on_eight_devices():
    def function(key, tokens, *, rate, where):
        options = {"function": longer, "probability": rate, "pad_id": 0}
        return text.paraphrase(key, tokens, where=where, **options)

    assert_same_on_eight_devices(function)


def test_sequences_without_length_or_a_batch():
    options = {"function": shorter, "probability": 1.0, "pad_id": 0}
    for empty in ((0, 4), (3, 0), (0,)):
        tokens = jax.ShapeDtypeStruct(empty, "int32")
        assert (
            jax.eval_shape(partial(text.paraphrase, **options), KEY, tokens).tokens.shape == empty
        )
    y, where = paraphrased(np.array([5, 6, 7], np.int32), np.ones(3, bool), function=shorter)
    np.testing.assert_array_equal(y, [6, 0, 0])
    np.testing.assert_array_equal(where, [True, False, False])


@pytest.mark.parametrize(
    ("function", "kind", "message"),
    [
        (lambda k, t, w: t, TypeError, r"`NAME` must return two arrays, .*got \w+\."),
        (lambda k, t, w: (t + 0.5, w), TypeError, r"`NAME` must be integer token ids"),
        (
            lambda k, t, w: (t[:2], w[:2]),
            ValueError,
            r"`NAME` must return tokens of shape \[4, any length\]",
        ),
        (lambda k, t, w: (t, w[..., :2]), ValueError, r"`NAME` must return tokens of shape"),
        (lambda k, t, w: (t, t), TypeError, r"`NAME` must return booleans as its second array"),
    ],
)
def test_results_that_do_not_fit_are_named(function, kind, message):
    options = {"probability": 0.5, "pad_id": 0, "where": WHERE}
    with pytest.raises(kind, match=message.replace("NAME", "function")):
        jax.eval_shape(partial(text.paraphrase, function=function, **options), KEY, TOKENS)

    def same(key, tokens, where):
        return tokens, where

    def translate(**functions):
        call = partial(text.back_translation, **functions, **options)
        return jax.eval_shape(call, KEY, TOKENS)

    with pytest.raises(kind, match=message.replace("NAME", "forward")):
        translate(forward=function, backward=same)
    with pytest.raises(kind, match=message.replace("NAME", "backward")):
        translate(forward=same, backward=function)


def test_wrong_arguments_are_named():
    options = {"function": longer, "probability": 0.5, "pad_id": 0}
    with pytest.raises(ValueError, match=r"`probability` must be a probability in \[0, 1\], got 2"):
        text.paraphrase(KEY, TOKENS, **options | {"probability": 2})
    with pytest.raises(TypeError, match=r"`pad_id` must be a single integer"):
        text.paraphrase(KEY, TOKENS, **options | {"pad_id": 0.5})
    with pytest.raises(TypeError, match=r"`function` must return tokens of dtype int32, got int16"):
        text.paraphrase(
            KEY, TOKENS, **options | {"function": lambda k, t, w: (t.astype(jnp.int16), w)}
        )
