"""Pictures of augmentations of series, tables and texts."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from docs.site.panels import KEY, Heat, Lines, Panel, Picture, Points, Words, as_array, evaluate
from docs.site.pictures.photographs import china
from docs.site.pictures.photographs import series as brightness

SERIES = {
    "random_jitter": ("series.random_jitter(key, x, stddev=0.05)",),
    "scaling": ("series.scaling(x, factor=1.4)", "series.random_scaling(key, x, stddev=0.3)"),
    "magnitude_warp": ("series.random_magnitude_warp(key, x, stddev=0.3, knots=6)",),
    "time_warp": ("series.random_time_warp(key, x, stddev=0.5, knots=6)",),
    "window_slice": (
        "series.window_slice(x, start=30.0, share=0.5)",
        "series.random_window_slice(key, x, share=0.7)",
    ),
    "window_warp": (
        "series.window_warp(x, start=40.0, share=0.2, factor=3.0)",
        "series.random_window_warp(key, x, share=0.3)",
    ),
    "permutation": (
        "series.random_permutation(key, x, segments=4)",
        "series.random_permutation(key, x, segments=4, cuts=series.random_cuts)",
    ),
}


def of_series(codes: tuple[str, ...]) -> Picture:
    """Shows a series before and after each call."""
    x = brightness()
    time = range(len(x))
    panels = tuple(
        Lines(
            code.removeprefix("series.").partition("(")[0],
            time,
            {"x": x[:, 0], "result": evaluate(code, x=x)[:, 0]},
            "time",
        )
        for code in codes
    )
    return Picture(panels, codes)


def spectrogram() -> Picture:
    """Shows an array of time and frequency before and after."""
    x = jnp.mean(china(), axis=-1).T
    policy = "series.SpecPolicy(20, 10, 2, 15, 2, time_share=0.2)"
    code = "series.random_spec_augment(key, x, policy=policy)"
    after = evaluate(code, x=x, policy=evaluate(policy))
    panels = (
        Heat("x", as_array(x).T, 0, 1, "time", "frequency"),
        Heat("result", as_array(after).T, 0, 1, "time", "frequency"),
    )
    return Picture(panels, (f"policy = {policy}", code))


def clusters() -> tuple[jax.Array, jax.Array]:
    """Returns a large and a small class of points."""
    large = jax.random.normal(jax.random.key(1), (60, 2))
    small = jnp.array([[3.0, 1.0], [3.4, 1.6], [4.1, 1.2], [3.6, 2.4], [4.4, 2.6], [3.1, 2.0]])
    return jnp.concatenate([large, small]), jnp.repeat(jnp.arange(2), jnp.array([60, 6]))


def oversampled(*codes: str) -> Picture:
    """Shows the points of two classes, and the new points of the small one."""
    x, labels = clusters()
    names: dict[str, Any] = {"x": x, "labels": labels, "wanted": jnp.ones(40, int)}
    for code in codes:
        result = evaluate(code, **names)
        names["mixture"] = result
    groups = {"large class": x[:60], "small class": x[60:], "new examples": names["mixture"]}
    return Picture((Points("", groups, across="first column", up="second column"),), codes)


SENTENCE = [
    "the", "quick", "brown", "fox", "jumps", "over", "the", "lazy", "dog", "and", "runs", "away",
]  # fmt: skip
SYNONYMS = {"quick": "fast", "jumps": "leaps", "lazy": "idle", "runs": "hurries", "away": "off"}
VOCABULARY = ["[pad]", "[mask]", *dict.fromkeys([*SENTENCE, *SYNONYMS.values()])]


def ids(words: list[str]) -> jax.Array:
    """Returns the ids of words."""
    return jnp.array([VOCABULARY.index(word) for word in words])


def synonym_table() -> Any:
    """Returns the table of the synonyms, both ways."""
    known = {VOCABULARY.index(a): [VOCABULARY.index(b)] for a, b in SYNONYMS.items()}
    return evaluate(
        "text.neighbors_from_dictionary(known, vocabulary_size=size, k=1)",
        known=known, size=len(VOCABULARY),
    )  # fmt: skip


def rewrite(key: Any, tokens: Any, where: Any) -> Any:
    """Stands for a model that writes a sentence anew: replaces words by their synonyms."""
    table = jnp.asarray(synonym_table())[:, 0]
    return jnp.where(table[tokens] < 0, tokens, table[tokens]), where


def repeat(key: Any, tokens: Any, where: Any) -> Any:
    """Stands for a model that translates back, word by word."""
    return tokens, where


def of_text(code: str, about: str = "") -> Picture:
    """Shows a sentence before, and after three draws."""
    tokens = ids(SENTENCE)
    names = {
        "neighbors": synonym_table(), "replacement": None, "model": rewrite,
        "back": repeat, "size": len(VOCABULARY),
    }  # fmt: skip
    names["replacement"] = evaluate("text.Replacement(mask_id=1, vocabulary_size=size)", **names)
    lines = [[(word, False) for word in SENTENCE]]
    for key in jax.random.split(KEY, 3):
        result = evaluate(code, key=key, tokens=tokens, **names)
        after = np.asarray(getattr(result, "tokens", result)).ravel()
        lines.append(
            [
                (VOCABULARY[i], i != (int(tokens[place]) if place < len(tokens) else -1))
                for place, i in enumerate(after)
            ]
        )
    return Picture((Words("tokens, and three draws", lines),), (code,), about)


def of_embeddings(*codes: str) -> Picture:
    """Shows embeddings before and after."""
    x = jnp.sin(jnp.arange(12 * 24.0)).reshape(12, 24)
    other = jnp.cos(jnp.arange(12 * 24.0)).reshape(12, 24)
    panels: list[Panel] = [Heat("x", as_array(x), -1.5, 1.5, "features", "tokens")]
    for code in codes:
        after = evaluate(code, x=x, other=other)
        panels.append(Heat("result", as_array(after), -1.5, 1.5, "features", "tokens"))
    return Picture(tuple(panels), codes)


MODELS = "A dictionary of synonyms stands for the model here."

PICTURES: dict[str, Callable[[], Picture]] = {
    **{f"augment/series/{name}": partial(of_series, codes) for name, codes in SERIES.items()},
    "augment/series/random_spec_augment": spectrogram,
    "augment/tables/smote": partial(
        oversampled, "augment.tables.smote(key, x, labels, wanted=wanted)"
    ),
    "augment/tables/fit_mixture": partial(
        oversampled,
        "augment.tables.fit_mixture(key, x, labels, num_classes=2, components=1, steps=20, "
        "ridge=0.05)",
        "augment.tables.sample_mixture(key, mixture, wanted=wanted)",
    ),
    "augment/text/synonym_replacement": partial(
        of_text, "text.synonym_replacement(key, tokens, neighbors=neighbors, rate=0.3)"
    ),
    "augment/text/random_insertion": partial(
        of_text, "text.random_insertion(key, tokens, neighbors=neighbors, rate=0.2)"
    ),
    "augment/text/random_deletion": partial(
        of_text, "text.random_deletion(key, tokens, rate=0.3, pad_id=0)"
    ),
    "augment/text/random_swap": partial(of_text, "text.random_swap(key, tokens, rate=0.2)"),
    "augment/text/token_masking": partial(
        of_text, "text.token_masking(key, tokens, rate=0.3, replacement=replacement)"
    ),
    "augment/text/span_masking": partial(
        of_text,
        "text.span_masking(key, tokens, rate=0.4, replacement=replacement, lengths=(0.2, 4))",
    ),
    "augment/text/paraphrase": partial(
        of_text,
        "text.paraphrase(key, tokens[None], function=model, probability=0.5, pad_id=0)",
        MODELS,
    ),
    "augment/text/back_translation": partial(
        of_text,
        "text.back_translation(key, tokens[None], forward=model, backward=back, "
        "probability=0.5, pad_id=0)",
        MODELS,
    ),
    "augment/text/embedding_noise": partial(
        of_embeddings, "text.embedding_noise(key, x, alpha=5.0)"
    ),
    "augment/text/embedding_interpolation": partial(
        of_embeddings,
        "text.embedding_interpolation(x, other, share=0.5)",
        "text.random_embedding_interpolation(key, x, other, amount=0.5)",
    ),
}
