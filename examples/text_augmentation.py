"""Augmentation of text with few sentences: accuracy of a small classifier, over seeds.

A toy language has 30 meanings with four words each, and a sentence is positive if its mean meaning
is. A convolutional classifier sees 80 sentences, so many words occur once or never. It is trained
with each augmentation on token ids or embeddings, and with translation into a language that has one
word for each meaning, and back; two functions take the place of translation models. The program
prints the mean accuracy over seeds on new sentences and the mean difference from no augmentation,
paired by seed, with standard errors. Augmentations that know which words are synonyms gain most.

    python examples/text_augmentation.py
"""

from functools import partial

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from jaxreg import targets
from jaxreg.augment import text

PAD, START, END, MASK, FIRST = 0, 1, 2, 3, 4
MEANINGS, WORDS = 30, 4
VOCABULARY = FIRST + MEANINGS * WORDS
LENGTH, DIM = 14, 16
TRAINING, TEST = 80, 1000
SEEDS, STEPS, LEARNING_RATE = 6, 60, 1e-2
SPECIAL = (START, END)
SYNONYMS = text.neighbors_from_dictionary(
    {
        FIRST + WORDS * m + i: [FIRST + WORDS * m + j for j in range(WORDS)]
        for m in range(MEANINGS)
        for i in range(WORDS)
    },
    vocabulary_size=VOCABULARY,
    k=WORDS - 1,
)


class Classifier(nn.Module):
    """Embeds tokens, convolves pairs of them and takes the mean without padding."""

    @nn.compact
    def __call__(self, tokens, where, change=lambda x: x):
        x = change(nn.Embed(VOCABULARY, DIM)(tokens))
        # One product, because XLA is slow at convolutions that are vmapped over seeds.
        x = nn.relu(nn.Dense(24)(jnp.concatenate([x, jnp.roll(x, -1, -2)], -1)))
        mean = jnp.sum(jnp.where(where[..., None], x, 0), -2) / jnp.sum(where, -1, keepdims=True)
        return nn.Dense(2)(mean)


def sentences(key, number):
    """Draws sentences of 5 to 10 words between a start and an end, and their labels."""
    keys = jax.random.split(key, 3)
    meaning = jax.random.randint(keys[0], (number, LENGTH), 0, MEANINGS)
    word = jax.random.randint(keys[1], (number, LENGTH), 0, WORDS)
    last = jax.random.randint(keys[2], (number, 1), 6, 12)
    place = jnp.arange(LENGTH)
    is_word = (place > 0) & (place < last)
    tokens = jnp.where(is_word, FIRST + WORDS * meaning + word, PAD)
    tokens = jnp.where(place == 0, START, jnp.where(place == last, END, tokens))
    mood = jnp.sum(jnp.where(is_word, meaning - (MEANINGS - 1) / 2, 0), -1)
    return tokens, jnp.int32(mood > 0)


def forward(key, tokens, where):
    """Translates words into their meanings, in reverse order."""
    meanings = jnp.where(tokens < FIRST, tokens, FIRST + (tokens - FIRST) // WORDS)
    return jnp.flip(meanings, -1), jnp.flip(where, -1)


def backward(key, tokens, where):
    """Translates meanings into one of their words each, in reverse order."""
    words = FIRST + WORDS * (tokens - FIRST) + jax.random.randint(key, tokens.shape, 0, WORDS)
    return jnp.flip(jnp.where(tokens < FIRST, tokens, words), -1), jnp.flip(where, -1)


def mask_spans(key, tokens, where):
    """Masks tokens as for a language model; its labels are not used here."""
    replacement = text.Replacement(mask_id=MASK, vocabulary_size=VOCABULARY)
    function = partial(text.span_masking, rate=0.15, replacement=replacement, protected=SPECIAL)
    return function(key, tokens, where=where).tokens


ON_TOKENS = {
    "none": lambda key, tokens, where: tokens,
    "synonyms 0.5": partial(
        text.synonym_replacement, neighbors=SYNONYMS, rate=0.5, protected=SPECIAL
    ),
    "insertion 0.2": partial(
        text.random_insertion, neighbors=SYNONYMS, rate=0.2, protected=SPECIAL
    ),
    "deletion 0.1": partial(text.random_deletion, rate=0.1, pad_id=PAD, protected=SPECIAL),
    "swaps 0.2": partial(text.random_swap, rate=0.2, protected=SPECIAL),
    "spans 0.15": mask_spans,
    "back-translation": partial(
        text.back_translation, forward=forward, backward=backward, probability=0.5, pad_id=PAD
    ),
}
ON_EMBEDDINGS = {"noise 5": partial(text.embedding_noise, alpha=5.0)}


def train(key, augment, change):
    """Trains one classifier on augmented sentences and returns its accuracy on new ones."""
    train_key, test_key, init_key, step_key = jax.random.split(key, 4)
    tokens, labels = sentences(train_key, TRAINING)
    where = tokens != PAD
    model = Classifier()
    tx = optax.adam(LEARNING_RATE)
    params = model.init(init_key, tokens, where)

    def step(carry, key):
        params, state = carry
        token_key, noise_key = jax.random.split(key)
        result = augment(token_key, tokens, where=where)
        seen, real = result if isinstance(result, text.Edited) else (result, where)

        def loss(params):
            logits = model.apply(params, seen, real, lambda x: change(noise_key, x, where=real))
            return targets.smoothed_cross_entropy(logits, labels, alpha=0.0)

        updates, state = tx.update(jax.grad(loss)(params), state, params)
        return (optax.apply_updates(params, updates), state), None

    keys = jax.random.split(step_key, STEPS)
    (params, _), _ = jax.lax.scan(step, (params, tx.init(params)), keys)
    tokens, labels = sentences(test_key, TEST)
    return jnp.mean(model.apply(params, tokens, tokens != PAD).argmax(-1) == labels)


def mean_and_error(values):
    """Returns the mean over seeds and its standard error, in percent."""
    return 100 * values.mean(), 100 * values.std(ddof=1) / values.size**0.5


def main() -> None:
    """Trains with each augmentation and prints the accuracies."""
    keys = jax.random.split(jax.random.key(0), SEEDS)
    arms = {name: (augment, lambda key, x, where: x) for name, augment in ON_TOKENS.items()}
    arms |= {name: (ON_TOKENS["none"], change) for name, change in ON_EMBEDDINGS.items()}
    print(f"{TRAINING} sentences, {SEEDS} seeds\n{'augmentation':18}{'accuracy':>13}{'gain':>16}")
    reference = None
    for name, (augment, change) in arms.items():
        arm = jax.vmap(lambda key, a=augment, c=change: train(key, a, c))
        accuracy = jax.jit(arm)(keys)
        reference = accuracy if reference is None else reference
        mean, error = mean_and_error(accuracy)
        gain, gain_error = mean_and_error(accuracy - reference)
        print(f"{name:18}{mean:6.1f} ± {error:4.1f}{gain:+9.1f} ± {gain_error:4.1f}")


if __name__ == "__main__":
    main()
