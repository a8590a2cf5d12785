"""Augmentation of text: functions ``(key, tokens) -> tokens`` of token ids, and of embeddings.

Token ids are integers ``[..., length]``: one sequence, or any batch of sequences with independent
draws. ``where`` marks the real tokens; padding is unchanged. ``protected`` is a list of special
ids, such as start and end, or a boolean array of positions. Protected tokens are never changed,
reordered or removed. The array length is fixed: functions that make sequences shorter or longer
return the new ``where`` with the tokens, as :class:`Edited`. Ids keep their dtype.

A ``rate`` is a single number and may be traced; 0 means no change. A Python or NumPy rate outside
``[0, 1]`` raises; an array is clipped. One key augments a whole batch, in the same way on one
device and on many.

Synonyms are a table ``[vocabulary, k]`` of neighbor ids, padded with -1.
:func:`neighbors_from_dictionary` and :func:`neighbors_from_embeddings` make such a table.
"""

from jaxreg import _signatures
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

_signatures.show(__name__)
