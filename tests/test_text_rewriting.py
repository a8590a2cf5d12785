"""Functions of the user that rewrite sequences."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg.augment import text
from tests.helpers import assert_rate
from tests.test_text import KEY

TOKENS = jnp.array([[5, 6, 7, 0], [8, 9, 0, 0], [0, 0, 0, 0], [5, 5, 5, 5]])
WHERE = TOKENS != 0


def longer(key, tokens, where):
    """Every word twice, with a gap after it."""
    twice = jnp.stack([tokens, tokens, jnp.full_like(tokens, 77)], -1)
    there = jnp.stack([where, where, jnp.zeros_like(where)], -1)
    return twice.reshape(*tokens.shape[:-1], -1), there.reshape(*tokens.shape[:-1], -1)


def shorter(key, tokens, where):
    return tokens[..., 1:2], where[..., 1:2] & (tokens[..., 1:2] != 9)


@pytest.mark.parametrize("dtype", [jnp.int32, jnp.int16, jnp.uint8])
def test_results_are_fitted_and_padded_again(dtype):
    tokens = TOKENS.astype(dtype)
    options = {"probability": 1.0, "pad_id": 3, "where": WHERE}
    y, where = text.paraphrase(KEY, tokens, function=longer, **options)
    assert y.dtype == dtype
    np.testing.assert_array_equal(y, [[5, 5, 6, 6], [8, 8, 9, 9], [0] * 4, [5] * 4])
    np.testing.assert_array_equal(where, [[True] * 4, [True] * 4, [False] * 4, [True] * 4])
    # What the function leaves nothing of stays, and so does padding.
    y, where = text.paraphrase(KEY, tokens, function=shorter, **options)
    np.testing.assert_array_equal(y, [[6, 3, 3, 3], [8, 9, 0, 0], [0] * 4, [5, 3, 3, 3]])
    np.testing.assert_array_equal(where.sum(1), [1, 2, 0, 1])


def test_padding_stays_whatever_is_made_of_it():
    def sevens(key, tokens, where):
        return jnp.full_like(tokens, 7), jnp.ones_like(where)

    y, where = text.paraphrase(KEY, TOKENS, function=sevens, probability=1.0, pad_id=0, where=WHERE)
    np.testing.assert_array_equal(y, [[7] * 4, [7] * 4, [0] * 4, [7] * 4])
    np.testing.assert_array_equal(where.sum(1), [4, 4, 0, 4])


def test_sequences_are_chosen_one_by_one():
    tokens = jnp.tile(TOKENS, (1000, 1))
    where = tokens != 0
    call = jax.jit(partial(text.paraphrase, function=longer, pad_id=0))
    y, kept = call(KEY, tokens, probability=0.3, where=where)
    changed = np.asarray((y != tokens).any(1)).reshape(-1, 4)
    for column in (0, 1):
        assert_rate(changed[:, column].mean(), 0.3, 1000)
    both = changed[:, 0] & changed[:, 1]
    assert_rate(both.mean(), 0.09, 1000)
    np.testing.assert_array_equal(
        kept.sum(1) - where.sum(1), (y != tokens).any(1) * np.tile([1, 2, 0, 0], 1000)
    )
    y, kept = call(KEY, tokens, probability=0.0, where=where)
    np.testing.assert_array_equal(y, tokens)
    np.testing.assert_array_equal(kept, where)


def test_a_translation_goes_there_and_back_with_keys_of_its_own():
    seen = []

    def forward(key, tokens, where):
        seen.append(key)
        return jnp.flip(tokens, -1).astype(jnp.int16) + 100, jnp.flip(where, -1)

    def backward(key, tokens, where):
        seen.append(key)
        assert tokens.dtype == jnp.int16
        # Sentences of the foreign language end with the word of the other length.
        return tokens.astype(jnp.int32) - 100, where

    y, where = text.back_translation(
        KEY, TOKENS, forward=forward, backward=backward, probability=1.0, pad_id=0, where=WHERE
    )
    np.testing.assert_array_equal(y, [[7, 6, 5, 0], [9, 8, 0, 0], [0] * 4, [5] * 4])
    np.testing.assert_array_equal(where, WHERE)
    assert len(seen) == 2
    assert (jax.random.key_data(seen[0]) != jax.random.key_data(seen[1])).any()


def test_sequences_without_length_or_a_batch():
    options = {"function": shorter, "probability": 1.0, "pad_id": 0}
    for empty in ((0, 4), (3, 0), (0,)):
        assert text.paraphrase(KEY, jnp.zeros(empty, int), **options).tokens.shape == empty
    y, where = text.paraphrase(KEY, jnp.array([5, 6, 7]), **options)
    np.testing.assert_array_equal(y, [6, 0, 0])
    np.testing.assert_array_equal(where, [True, False, False])


@pytest.mark.parametrize(
    ("function", "kind", "message"),
    [
        (lambda k, t, w: t, TypeError, r"`NAME` must return two arrays, .*got \w*Array"),
        (lambda k, t, w: (t + 0.5, w), TypeError, r"`NAME` must hold integer token ids"),
        (
            lambda k, t, w: (t[:2], w[:2]),
            ValueError,
            r"`NAME` must return tokens of shape \(4, 'an",
        ),
        (lambda k, t, w: (t, w[..., :2]), ValueError, r"`NAME` must return tokens of shape"),
        (lambda k, t, w: (t, t), TypeError, r"`NAME` must return booleans as its second array"),
    ],
)
def test_results_that_do_not_fit_are_named(function, kind, message):
    options = {"probability": 0.5, "pad_id": 0, "where": WHERE}
    with pytest.raises(kind, match=message.replace("NAME", "function")):
        text.paraphrase(KEY, TOKENS, function=function, **options)
    same = lambda k, t, w: (t, w)  # noqa: E731
    with pytest.raises(kind, match=message.replace("NAME", "forward")):
        text.back_translation(KEY, TOKENS, forward=function, backward=same, **options)
    with pytest.raises(kind, match=message.replace("NAME", "backward")):
        text.back_translation(KEY, TOKENS, forward=same, backward=function, **options)


def test_wrong_arguments_are_named():
    options = {"function": longer, "probability": 0.5, "pad_id": 0}
    with pytest.raises(ValueError, match=r"`probability` must be a probability in \[0, 1\], got 2"):
        text.paraphrase(KEY, TOKENS, **options | {"probability": 2})
    with pytest.raises(TypeError, match=r"`pad_id` must be one integer"):
        text.paraphrase(KEY, TOKENS, **options | {"pad_id": 0.5})
    with pytest.raises(TypeError, match=r"`function` must return tokens of dtype int32, got int16"):
        text.paraphrase(
            KEY, TOKENS, **options | {"function": lambda k, t, w: (t.astype(jnp.int16), w)}
        )
