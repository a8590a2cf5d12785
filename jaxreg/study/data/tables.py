"""Prepares tables with scikit-learn's transformers, fitted on the training rows of each seed."""

from __future__ import annotations

from typing import Any

import numpy as np

from jaxreg.study.data.columns import Columns, read_columns
from jaxreg.study.data.extras import extra
from jaxreg.study.data.preparation import Encoding, Preparation
from jaxreg.study.data.texts import prepare_texts
from jaxreg.study.data.wording import enumerate_names

_MOST_CATEGORIES = 20
# The fourth moment of standardized numbers: 3 for a normal distribution, 9 for an exponential one.
_HEAVY = 15.0
_MOST_QUANTILES = 1000


def prepare_table(frame: Any) -> Preparation:
    """Prepares a pandas table.

    Missing numbers are replaced with the median, and numbers are standardized; columns with heavy
    tails are first mapped to a normal distribution by their quantiles. Categories become one column
    each; the rarest of more than 20 share a column. All of it is fitted on the training rows of a
    seed in float64. A category that does not occur in them counts as one of the rarest, or is zero
    in all columns if there are at most 20. A table whose only column contains texts becomes a text.

    Args:
      frame: The table, with different strings as column names.

    Returns:
      The preparation; its rows are float32 ``[rows, features]``, with the same number of features
      for every seed: features that a seed does not have are 0.

    Raises:
      ValueError: No column is of use.
    """
    columns = read_columns(frame)
    if not columns.numbers and not columns.categories:
        return _prepare_only_texts(columns)
    heavy = [name for name, values in columns.numbers.items() if _has_heavy_tails(values)]
    notes = _notes(columns, heavy)
    values = _as_frame(columns)
    width = _count_features(columns)

    def fit(rows: np.ndarray) -> Encoding:
        transformer = _transformer(columns, heavy, len(rows))
        transformer.fit(values.iloc[rows])

        def encode(rows: np.ndarray) -> np.ndarray:
            found = transformer.transform(values.iloc[rows])
            padded = np.zeros((len(rows), width), np.float32)
            padded[:, : found.shape[1]] = found
            return padded

        return Encoding(encode)

    return Preparation("table", fit, notes=notes)


def _prepare_only_texts(columns: Columns) -> Preparation:
    """Prepares a table without numbers and categories: its texts, joined if there are several."""
    if not columns.texts:
        reasons = " ".join(columns.notes())
        raise ValueError(f"`data` must contain a column to predict the target from. {reasons}")
    texts = [" ".join(parts) for parts in zip(*columns.texts.values(), strict=True)]
    prepared = prepare_texts(texts)
    return prepared._replace(notes=(*columns.notes(), *prepared.notes))


def _has_heavy_tails(values: np.ndarray) -> bool:
    known = values[~np.isnan(values)]
    scale = known.std()
    if len(np.unique(known)) < 10 or scale == 0:
        return False
    return float(np.mean(((known - known.mean()) / scale) ** 4)) > _HEAVY


def _notes(columns: Columns, heavy: list[str]) -> tuple[str, ...]:
    notes = list(columns.notes())
    if heavy:
        notes.append(f"Heavy tails, mapped to normal quantiles: {enumerate_names(heavy)}.")
    wide = [
        f"{name} ({len(np.unique(words))})"
        for name, words in columns.categories.items()
        if len(np.unique(words)) > _MOST_CATEGORIES
    ]
    if wide:
        notes.append(f"Joined the rarest categories, so that 20 are left: {enumerate_names(wide)}.")
    if columns.texts:
        notes.append(
            f"Left out texts: {enumerate_names(columns.texts)}; give a table of such a column and "
            "the labels alone to study them."
        )
    return tuple(notes)


def _count_features(columns: Columns) -> int:
    """Returns the largest number of features that any training rows can give."""
    categories = sum(
        min(len(np.unique(words)), _MOST_CATEGORIES) for words in columns.categories.values()
    )
    return len(columns.numbers) + len(columns.flags) + categories


def _as_frame(columns: Columns) -> Any:
    """Returns one table, with what a column contains as a prefix of its name."""
    named = {f"number {name}": values for name, values in columns.numbers.items()}
    named |= {f"flag {name}": values for name, values in columns.flags.items()}
    named |= {f"category {name}": values for name, values in columns.categories.items()}
    return extra("pandas").DataFrame(named)


def _transformer(columns: Columns, heavy: list[str], rows: int) -> Any:
    """Returns scikit-learn's transformer of the table for this number of training rows."""
    preprocessing = extra("sklearn.preprocessing")
    make_pipeline = extra("sklearn.pipeline").make_pipeline
    imputer = extra("sklearn.impute").SimpleImputer(strategy="median", keep_empty_features=True)
    plain = make_pipeline(imputer, preprocessing.StandardScaler())
    quantiles = preprocessing.QuantileTransformer(
        n_quantiles=min(rows, _MOST_QUANTILES), output_distribution="normal", random_state=0
    )
    # The quantiles 0 and 1 would be 5.2 standard deviations from the mean.
    clip = preprocessing.FunctionTransformer(np.clip, kw_args={"a_min": -3, "a_max": 3})
    ranked = make_pipeline(imputer, quantiles, clip, preprocessing.StandardScaler())
    encoder = preprocessing.OneHotEncoder(
        handle_unknown="infrequent_if_exist",
        max_categories=_MOST_CATEGORIES,
        sparse_output=False,
    )
    light = [f"number {name}" for name in columns.numbers if name not in heavy]
    return extra("sklearn.compose").ColumnTransformer(
        [
            ("light", plain, light),
            ("heavy", ranked, [f"number {name}" for name in heavy]),
            ("flags", "passthrough", [f"flag {name}" for name in columns.flags]),
            ("categories", encoder, [f"category {name}" for name in columns.categories]),
        ],
        sparse_threshold=0.0,
    )
