"""Augmentation of text: functions ``(key, tokens) -> tokens`` of token ids, and of embeddings.

Token ids are integers ``[..., length]``: one sequence or any batch, each with draws of its own.
``where`` tells the real tokens from padding, which stays as it is; ``protected`` are special ids
such as those of the start and the end, or a boolean array of positions, and is never changed, moved
among the others or removed. The length stays: what makes sequences shorter or longer returns the
new ``where`` with the tokens, :class:`Edited`. Ids come back in the dtype they had.

A ``rate`` is one number, may be traced, and at 0 leaves everything as it was; a Python or NumPy
rate outside ``[0, 1]`` raises, an array is clipped. One key is one augmentation of a whole batch,
the same on one device and on many.

Synonyms are a table ``[vocabulary, k]`` of neighbor ids, padded with -1.
:func:`neighbors_from_dictionary` and :func:`neighbors_from_embeddings` make one.
"""

from jaxreg.augment.text.edits import random_deletion, random_insertion, random_swap
from jaxreg.augment.text.embeddings import (
    embedding_interpolation,
    embedding_noise,
    random_embedding_interpolation,
)
from jaxreg.augment.text.masking import Masked, Replacement, span_masking, token_masking
from jaxreg.augment.text.neighbors import (
    neighbors_from_dictionary,
    neighbors_from_embeddings,
    synonym_replacement,
)
from jaxreg.augment.text.rewriting import back_translation, paraphrase
from jaxreg.augment.text.sequences import Edited

__all__ = [
    "Edited",
    "Masked",
    "Replacement",
    "back_translation",
    "embedding_interpolation",
    "embedding_noise",
    "neighbors_from_dictionary",
    "neighbors_from_embeddings",
    "paraphrase",
    "random_deletion",
    "random_embedding_interpolation",
    "random_insertion",
    "random_swap",
    "span_masking",
    "synonym_replacement",
    "token_masking",
]
