"""Rows of docs/coming_from/big_vision.md against the formulas of its source.

The formulas are those of commit 0127fb6 of https://github.com/google-research/big_vision.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxreg import augment, reparam, targets, transforms
from jaxreg.augment import partners
from tests.exhaustive.docs.coming_from.figures import close

PARAMS = {"head": {"kernel": jnp.ones((2, 3))}, "stem": {"kernel": jnp.ones((2, 3))}}
ZERO = jax.tree.map(jnp.zeros_like, PARAMS)


def one_step(*chain):
    tx = optax.chain(*chain)
    updates, _ = tx.update(ZERO, tx.init(PARAMS), PARAMS)
    return optax.apply_updates(PARAMS, updates)


def test_multipliers_of_rates_leave_the_decay():
    """``lr_mults`` scale before the decay is added, in ``big_vision.optax.make``."""
    head = {"head": True, "stem": False}
    theirs = one_step(
        optax.masked(optax.scale(0.1), head), optax.add_decayed_weights(0.01), optax.scale(-1.0)
    )
    close(theirs["head"]["kernel"], np.full((2, 3), 0.99))
    close(theirs["stem"]["kernel"], np.full((2, 3), 0.99))
    ours = one_step(transforms.independent_decay(0.01))
    close(ours["head"]["kernel"], theirs["head"]["kernel"])


def test_frozen_parameters_do_not_decay():
    decay = transforms.decoupled_decay(0.1, learning_rate=0.1)
    labels = {"head": "train", "stem": "frozen"}
    both = {"train": decay, "frozen": optax.set_to_zero()}
    new = one_step(optax.clip_by_global_norm(1.0), optax.partition(both, labels))
    close(new["head"]["kernel"], np.full((2, 3), 0.99))
    close(new["stem"]["kernel"], np.ones((2, 3)))


def test_mixup():
    """One share of at least one half for all; the partner is the neighbor."""

    def larger(key, x, alpha):
        share = partners.share_per_batch(key, x, alpha)
        return jnp.maximum(share, 1 - share)

    def neighbor(key, x):
        return jnp.roll(x, 1, axis=0)

    x = np.random.default_rng(0).normal(size=(4, 3)).astype("f4")
    labels = np.eye(4, dtype="f4")
    mixed = augment.random_mixup(
        jax.random.key(0), x, labels, alpha=0.5, partners=neighbor, draw=larger
    )
    a = mixed.share[0]
    assert a >= 0.5
    close(mixed.x, a * x + (1 - a) * np.roll(x, 1, axis=0))
    close(mixed.labels, a * labels + (1 - a) * np.roll(labels, 1, axis=0))


def test_label_smoothing():
    """``weighted_softmax_xent`` gives the smoothed share to the other classes."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(2, 3, 5)).astype("f4")
    labels = rng.integers(0, 5, (2, 3))
    weights = np.array([[1.0, 1.0, 0.0], [1.0, 0.0, 0.0]], "f4")
    s = 0.1
    soft = np.where(np.eye(5)[labels] == 1, 1 - s, s / 4)
    each = -(soft * np.asarray(jax.nn.log_softmax(logits))).sum(-1) * weights
    by_sequence = (each.sum(1) / weights.sum(1)).mean()
    losses, counts = targets.smoothed_cross_entropy(
        logits, labels, alpha=s * 5 / 4, where=weights, reduce=lambda losses, w: (losses, w)
    )
    close(((losses * counts).sum(1) / counts.sum(1)).mean(), by_sequence)


def test_levels_of_randaug():
    """Shear and rotation at level 10 are ours at 30; the enhancements are not symmetric there."""
    close(augment.operations.SHEAR_X.high, 10 / 10 * 0.3)
    close(augment.operations.ROTATE.high, 10 / 10 * 30)
    enhance = lambda level: level / 10 * 1.8 + 0.1  # noqa: E731
    close(enhance(10), 1 + augment.operations.CONTRAST.high)
    close(enhance(0), 1 - augment.operations.CONTRAST.high)
    bits = lambda level: int(level / 10 * 4)  # noqa: E731
    assert bits(0) == 0 < bits(10) == augment.operations.POSTERIZE.high


def test_standardized_kernels():
    """There, ``(w - mean) / (std + 1e-5)`` over all axes but the last."""
    w = np.random.default_rng(0).normal(size=(3, 3, 2, 4)).astype("f4")
    centered = w - w.mean(axis=(0, 1, 2))
    theirs = centered / (centered.std(axis=(0, 1, 2)) + 1e-5)
    close(reparam.weight_standardization(w, eps=1e-10), theirs, rtol=1e-4)
