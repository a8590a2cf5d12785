"""Faults in ``jaxreg.augment.series`` and ``jaxreg.augment.text``."""

from tests.mutants.row import Mutant

MUTANTS = (
    Mutant(
        "augment/series/_steps.py",
        "changed = (times(x) < counted) & ~still",
        "changed = (times(x) <= counted) & ~still",
        "a step of padding changes",
    ),
    Mutant(
        "augment/series/_steps.py",
        "weigh(1 - share, widen(first)) + weigh(share, widen(second))",
        "weigh(share, widen(first)) + weigh(1 - share, widen(second))",
        "interpolates the wrong way round",
    ),
    Mutant(
        "augment/series/clocks.py",
        "(speed[..., :-1] + speed[..., 1:]) / 2",
        "speed[..., :-1]",
        "speed of the start of a step",
    ),
    Mutant(
        "augment/series/clocks.py",
        "jnp.minimum(start + share * times(x),",
        "jnp.minimum(share * times(x),",
        "the start is not used",
    ),
    Mutant(
        "augment/series/clocks.py",
        "within = a + (u - a) / f",
        "within = a + (u - a) * f",
        "factor the other way round",
    ),
    Mutant(
        "augment/series/segments.py",
        "+ jnp.minimum(segment, counted % segments)",
        "",
        "the rest goes to the last segment",
    ),
    Mutant(
        "augment/series/segments.py",
        "sizes = ends - begins",
        "sizes = ends - begins - 1",
        "segments one step short",
    ),
    Mutant(
        "augment/series/spectrogram.py", "share * counted)", "counted)", "bound of the masks lost"
    ),
    Mutant(
        "augment/series/spectrogram.py",
        "jnp.floor(widths * (widest + 1))",
        "jnp.floor(widths * widest)",
        "the widest mask is never drawn",
    ),
    Mutant("augment/series/splines.py", "t**2 * (3 - 2 * t)", "t**2 * (3 - t)", "missing factor"),
    Mutant(
        "augment/series/splines.py",
        "right[i, i - 1 : i + 2] = -3, 0, 3",
        "right[i, i - 1 : i + 2] = -1, 0, 1",
        "slopes too small",
    ),
    Mutant(
        "augment/series/values.py",
        "(knots - 1) / jnp.maximum(counted - 1, 1)",
        "knots / jnp.maximum(counted, 1)",
        "knots at the wrong times",
    ),
    Mutant(
        "augment/series/values.py",
        '1 + limit(stddev, "stddev", x) * normal(key, x, 1, x.shape[-1])',
        'limit(stddev, "stddev", x) * normal(key, x, 1, x.shape[-1])',
        "factors about 0",
    ),
    Mutant(
        "augment/text/edits.py",
        "deleted = free & _bits.below(words, rate)",
        "deleted = real & _bits.below(words, rate)",
        "protected tokens are deleted",
    ),
    Mutant(
        "augment/text/edits.py",
        "second = jnp.where(second >= first, second + 1, second)",
        "second = jnp.where(second > first, second + 1, second)",
        "a token swaps with itself",
    ),
    Mutant(
        "augment/text/edits.py",
        "(rounding < exact - whole)",
        "(rounding > exact - whole)",
        "rounds with the wrong probability",
    ),
    Mutant(
        "augment/text/edits.py",
        "jnp.where(positions < number, 2 * before, beyond)",
        "jnp.where(positions < number, 2 * before + 2, beyond)",
        "inserted behind the token",
    ),
    Mutant(
        "augment/text/embeddings.py",
        "limit=size / max(length * dim, 1) ** 0.5",
        "limit=size / max(length * dim, 1)",
        "root lost",
    ),
    Mutant(
        "augment/text/embeddings.py",
        "jnp.sum(real, -1, keepdims=True) * dim",
        "jnp.sum(real, -1, keepdims=True)",
        "missing factor where there is a mask",
    ),
    Mutant(
        "augment/text/masking.py",
        "jnp.minimum(masked + random, 1)",
        "random",
        "hardly any random tokens",
    ),
    Mutant(
        "augment/text/masking.py",
        "widen_labels(tokens).astype(signed), -1)",
        "widen_labels(y).astype(signed), -1)",
        "labels hold the masks",
    ),
    Mutant(
        "augment/text/masking.py",
        "1 + jnp.clip(drawn, 0, most - 1)",
        "jnp.clip(drawn, 1, most)",
        "off by one in the lengths",
    ),
    Mutant(
        "augment/text/masking.py",
        "(distance >= 0) & (distance < size)",
        "(distance >= 0) & (distance <= size)",
        "spans one token too long",
    ),
    Mutant(
        "augment/text/neighbors.py",
        "included[index] & (ids != index)",
        "included[index]",
        "a word is its own neighbor",
    ),
    Mutant(
        "augment/text/neighbors.py",
        "[*different][1 : k + 1]",
        "[*different][:k]",
        "a word is its own synonym",
    ),
    Mutant(
        "augment/text/rewriting.py",
        "backward(back, foreign, present)",
        "backward(there, foreign, present)",
        "the same key used twice",
    ),
    Mutant(
        "augment/text/rewriting.py",
        "replaced & jnp.any(real, -1, keepdims=True) & filled[..., :1]",
        "replaced & filled[..., :1]",
        "empty rows are rewritten",
    ),
    Mutant(
        "augment/text/sequences.py",
        "real & ~_is_protected(tokens, protected)",
        "real & _is_protected(tokens, protected)",
        "protection inverted",
    ),
    Mutant(
        "augment/text/sequences.py",
        "filled = slots & (own < count(kept))",
        "filled = slots & (own <= count(kept))",
        "a token too many",
    ),
)
