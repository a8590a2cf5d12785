"""Draws training, validation and test rows by seed: stratified, grouped, or in folds."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from jaxreg.study.data.extras import extra

Rows = np.ndarray
# Function from a seed to the indices of the training, validation and test rows.
Draw = Callable[[int], tuple[Rows, Rows, Rows]]


class Limits(NamedTuple):
    """Limits on the numbers of rows of the sets.

    Attributes:
      held_out: Minimum for the validation set and for the test set.
      train: Maximum for the training set, if the caller asks for no number.
      validation: Maximum for the validation set.
      test: Maximum for the test set.
    """

    held_out: int
    train: float = math.inf
    validation: float = math.inf
    test: float = math.inf


class _Sizes(NamedTuple):
    train: int
    validation: int
    test: int


def row_drawer(
    y: np.ndarray,
    *,
    limits: Limits,
    train_size: int | None = None,
    groups: np.ndarray | None = None,
    folds: int = 1,
) -> Draw:
    """Returns a function from a seed to the indices of training, validation and test rows.

    The three sets have the same sizes for every seed. Classes keep their shares in all of them. The
    rows of a class that is too small to be divided are drawn at random.

    Without folds, the test rows are drawn once and are the same for every seed: choices are pooled
    over seeds, so no seed may validate on a row that another seed tests on. With folds, seed ``s``
    tests on fold ``s % folds``.

    Args:
      y: Labels, ``[rows, ...]``; integers are classes.
      limits: Limits on the sizes of the sets.
      train_size: Number of training rows; by default 60% of the rows (with folds, 75% of the rows
        outside the test fold), but at most ``limits.train``.
      groups: Group of each row, ``[rows]``; all rows of a group are in the same set. Surplus rows
        of the last group of a set are left out.
      folds: Number of folds; 1 for a fixed test set.

    Raises:
      ValueError: There are too few rows or groups.
    """
    classes = y if np.issubdtype(y.dtype, np.integer) else None
    if groups is not None:
        groups = np.unique(groups, return_inverse=True)[1]
        _check_groups(groups, limits)
    if folds > 1:
        pairs = _fold_pairs(len(y), classes, groups, folds, limits)
        sizes = _sizes_in_folds(pairs, _slack(groups), train_size, limits)
    else:
        sizes = _sizes(len(y) - 2 * _slack(groups), train_size, limits)
        pairs = [_set_aside(np.arange(len(y)), classes, groups, sizes.test)]

    def draw(seed: int) -> tuple[Rows, Rows, Rows]:
        rest, test = pairs[seed % folds]
        train, validation = _divide(rest, classes, groups, sizes, seed)
        return train, validation, test

    return draw


def _slack(groups: np.ndarray | None) -> int:
    """Returns by how many rows a set of whole groups may exceed the requested size."""
    return 0 if groups is None else int(np.bincount(groups).max()) - 1


def _check_groups(groups: np.ndarray, limits: Limits) -> None:
    sizes = np.bincount(groups)
    if len(sizes) < 3:
        raise ValueError(
            f"`groups` must contain at least 3 groups, one each for training, validation and test, "
            f"got {len(sizes)}."
        )
    least = 2 * limits.held_out + 2
    if len(groups) >= least > len(groups) - 2 * _slack(groups):
        raise ValueError(
            f"`groups` must be small enough to fill three sets, got one with {sizes.max()} of the "
            f"{len(groups)} rows; divide it, or leave it out."
        )


def _sizes(rows: int, train_size: int | None, limits: Limits) -> _Sizes:
    """Returns the sizes of the three sets of ``rows`` rows."""
    _check_train_size(train_size, rows, 2, limits)
    train = train_size or int(min(3 * rows // 5, limits.train))
    validation = int(min(train, (rows - train) // 2, limits.validation))
    return _Sizes(train, validation, int(min(rows - train - validation, limits.test)))


def _sizes_in_folds(
    pairs: list[tuple[Rows, Rows]], slack: int, train_size: int | None, limits: Limits
) -> _Sizes:
    """Returns the sizes of the three sets if the test set is a fold."""
    rows = min(len(rest) for rest, _ in pairs) - slack
    _check_train_size(train_size, rows, 1, limits)
    train = train_size or int(min(3 * rows // 4, limits.train))
    validation = int(min(train, rows - train, limits.validation))
    return _Sizes(train, validation, len(pairs[0][1]))


def _check_train_size(train_size: int | None, rows: int, sets: int, limits: Limits) -> None:
    """Raises ValueError if too few rows are left for the other sets."""
    least = sets * limits.held_out
    if train_size is None:
        if rows < least + 2:
            raise ValueError(
                f"`data` must contain more rows: {rows} can be used and {least + 2} are needed, so "
                f"that {limits.held_out} are left for each of validation and test."
            )
    elif not 2 <= train_size <= rows - least:
        raise ValueError(
            f"`train_size` must be from 2 to {rows - least}, so that {limits.held_out} rows are "
            f"left for each of validation and test, got {train_size}."
        )


def _set_aside(
    rows: Rows, classes: np.ndarray | None, groups: np.ndarray | None, size: int
) -> tuple[Rows, Rows]:
    """Returns the rows that are left, and the test rows."""
    if groups is not None:
        test, rest = _take_groups(rows, classes, groups, size, np.random.default_rng(0))
        return rest, test
    rest, test = extra("sklearn.model_selection").train_test_split(
        rows, test_size=size, stratify=_strata(rows, classes, 2, size), random_state=0
    )
    return rest, test


def _divide(
    rows: Rows,
    classes: np.ndarray | None,
    groups: np.ndarray | None,
    sizes: _Sizes,
    seed: int,
) -> tuple[Rows, Rows]:
    """Returns the training and the validation rows of a seed."""
    if groups is not None:
        rng = np.random.default_rng((seed, 1))
        validation, train = _take_groups(rows, classes, groups, sizes.validation, rng)
        return (
            rng.permutation(train)[: sizes.train],
            rng.permutation(validation)[: sizes.validation],
        )
    train, validation = extra("sklearn.model_selection").train_test_split(
        rows,
        train_size=sizes.train,
        test_size=sizes.validation,
        stratify=_strata(rows, classes, 2, min(sizes.train, sizes.validation)),
        random_state=seed,
    )
    return train, validation


def _strata(rows: Rows, classes: np.ndarray | None, members: int, size: int) -> np.ndarray | None:
    """Returns a stratum for each row; None if a set of ``size`` rows has no room for all strata.

    A class of fewer than ``members`` rows joins the largest class.
    """
    if classes is None:
        return None
    strata = classes[rows]
    counts = np.bincount(strata)
    strata = np.where(counts[strata] < members, counts.argmax(), strata)
    return strata if len(np.unique(strata)) <= size else None


def _take_groups(
    rows: Rows,
    classes: np.ndarray | None,
    groups: np.ndarray,
    size: int,
    rng: np.random.Generator,
) -> tuple[Rows, Rows]:
    """Returns the rows of random groups, at least ``size`` rows, and the other rows.

    About the same share of the groups is taken from every class; a group has the class of most of
    its rows.
    """
    names, own = np.unique(groups[rows], return_inverse=True)
    strata = np.zeros(len(names), int)
    if classes is not None:
        counts = np.zeros((len(names), classes.max() + 1), int)
        np.add.at(counts, (own, classes[rows]), 1)
        strata = counts.argmax(axis=1)
    place = np.zeros(len(names))
    for stratum in np.unique(strata):
        members = rng.permutation(np.flatnonzero(strata == stratum))
        place[members] = (np.arange(len(members)) + rng.random(len(members))) / len(members)
    order = np.argsort(place)
    filled = np.cumsum(np.bincount(own)[order])
    count = 1 + np.searchsorted(filled, size)
    taken = np.isin(own, order[:count])
    return rows[taken], rows[~taken]


def _fold_pairs(
    rows: int,
    classes: np.ndarray | None,
    groups: np.ndarray | None,
    folds: int,
    limits: Limits,
) -> list[tuple[Rows, Rows]]:
    """Returns the other rows and the test rows of every fold; test sets have the same size."""
    most = rows // limits.held_out
    if groups is not None:
        most = min(most, len(np.unique(groups)))
    if folds > most:
        unit = "rows" if groups is None else "groups and rows"
        raise ValueError(f"`folds` must be from 1 to {most} with so few {unit}, got {folds}.")
    every = np.arange(rows)
    strata = _strata(every, classes, folds, rows)
    model_selection = extra("sklearn.model_selection")
    name = "KFold" if groups is None else "GroupKFold"
    if strata is not None:
        name = "StratifiedKFold" if groups is None else "StratifiedGroupKFold"
    splitter = getattr(model_selection, name)(n_splits=folds, shuffle=True, random_state=0)
    pairs = list(splitter.split(every, strata, groups))
    size = int(min(*(len(test) for _, test in pairs), limits.test))
    if size < limits.held_out:
        raise ValueError(
            f"`folds` must leave at least {limits.held_out} rows in each fold, got {size} in the "
            f"smallest of {folds}; ask for fewer folds."
        )
    rng = np.random.default_rng(0)
    return [(rest, np.sort(rng.permutation(test)[:size])) for rest, test in pairs]
