"""Data rows and labels as a source contains them, before they are prepared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from jaxreg.study.data.extras import extra
from jaxreg.study.data.wording import check_name, count_of, enumerate_names

_X_NAMES = ("x", "X", "data", "images", "texts", "tokens", "arr_0")
_Y_NAMES = ("y", "Y", "target", "targets", "label", "labels", "arr_1")
_TARGET_COLUMNS = ("target", "class", "label", "y")


class Raw(NamedTuple):
    """Rows and labels of a source.

    Attributes:
      x: A pandas table, an array ``[rows, ...]``, or a list of texts.
      y: Labels, ``[rows, ...]``.
      kind: Kind of the rows, a key of ``KINDS``, or ``"tokens"`` for texts of word ids.
      groups: Group of each row, or None.
      notes: Remarks.
    """

    x: Any
    y: Any
    kind: str
    groups: Any = None
    notes: tuple[str, ...] = ()


def from_table(frame: Any, target: str | None, groups: str | None) -> Raw:
    """Takes the labels and the groups out of a pandas table.

    Raises:
      ValueError: The table has no such columns, or two columns with the same name.
    """
    names = [str(name).strip() for name in frame.columns]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(
            f"`data` must have different column names, got two columns {enumerate_names(twice)}; "
            "rename one of them."
        )
    frame = frame.set_axis(names, axis=1).reset_index(drop=True)
    if frame.empty:
        raise ValueError("`data` must contain rows, got an empty table.")
    target, notes = _target_column(names, target)
    own = None
    if groups is not None:
        check_name("groups", groups, names, "a column of the data")
        if groups == target:
            raise ValueError(f"`groups` must not name the column of `target`, got {groups}.")
        own = frame[groups]
    x = frame.drop(columns=[name for name in (target, groups) if name is not None])
    if not len(x.columns):
        raise ValueError(f"`data` must contain a column besides `target`, got only {target}.")
    return Raw(x, frame[target], "table", own, notes)


def _target_column(names: list[str], target: str | None) -> tuple[str, tuple[str, ...]]:
    """Returns the column to predict: ``target``, or else the only one with a usual name."""
    if target is not None:
        check_name("target", target, names, "a column of the data")
        return target, ()
    usual = [name for name in names if name.lower() in _TARGET_COLUMNS]
    if len(usual) != 1:
        raise ValueError(
            f"`target` must name the column to predict, got none; pass one of "
            f"{enumerate_names(names)}."
        )
    return usual[0], (f"Predicts the column {usual[0]}; `target` names another one.",)


def from_mapping(found: Mapping[str, Any], target: str | None, groups: str | None) -> Raw:
    """Takes rows, labels and groups out of a mapping of arrays.

    Raises:
      ValueError: An array is missing, or has another number of rows.
    """
    names = [str(name) for name in found]
    rows = next((name for name in _X_NAMES if name in found and name != target), None)
    if target is not None:
        check_name("target", target, names, "an array of the data")
        labels = target
    else:
        labels = next((name for name in _Y_NAMES if name in found), None)
    if rows is None or labels is None:
        raise ValueError(
            "`data` must contain arrays named x and y (or X and y, data and target), got "
            f"{enumerate_names(names) or 'none'}; save them under those names."
        )
    if groups is not None:
        check_name("groups", groups, names, "an array of the data")
    own = found.get("groups" if groups is None else groups)
    raw = from_pair(found[rows], found[labels], own, tokens=rows == "tokens")
    if groups is None and own is not None:
        return raw._replace(notes=(*raw.notes, "Takes the groups from the array groups."))
    return raw


def from_pair(x: Any, y: Any, groups: Any = None, *, tokens: bool = False) -> Raw:
    """Finds the kind of rows from their shape and dtype.

    Args:
      x: A pandas table, texts, or numbers: a table ``[rows, features]``, series
        ``[rows, time, channels]``, gray images ``[rows, height, width]`` of whole numbers from 0 to
        255, or images ``[rows, height, width, channels]``.
      y: Labels, ``[rows, ...]``.
      groups: Group of each row, or None.
      tokens: Whether ``x`` contains word ids ``[rows, length]``.

    Raises:
      ValueError: The rows are of no known kind, or the arrays have different numbers of rows.
    """
    texts = isinstance(x, list | tuple) and len(x) and all(isinstance(each, str) for each in x)
    is_ready: bool = bool(texts) or hasattr(x, "columns")
    own: Any = x if is_ready else _as_array("x", x)
    # A pandas column keeps its categories and missing cells.
    y = y if hasattr(y, "isna") else _as_array("y", y)
    for name, rows in (("y", y), ("groups", groups)):
        if rows is not None and len(rows) != len(own):
            raise ValueError(
                f"`data` must have as many rows in x as in {name}, got {len(own)} and {len(rows)}."
            )
    if not len(own):
        raise ValueError("`data` must contain rows, got none.")
    if hasattr(own, "columns"):
        names = [str(name) for name in own.columns]
        return Raw(own.set_axis(names, axis=1).reset_index(drop=True), y, "table", groups)
    if texts or (own.ndim == 1 and own.dtype.kind in "UO"):
        return Raw([str(text) for text in own], y, "text", groups)
    if tokens:
        return Raw(_check_tokens(np.asarray(own)), y, "tokens", groups)
    rows = np.asarray(own)
    return _from_columns(rows, y, groups) if rows.ndim <= 2 else _from_numbers(rows, y, groups)


def _as_array(name: str, values: Any) -> np.ndarray:
    """Returns an array with at least one axis."""
    values = values.toarray() if hasattr(values, "toarray") else values
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise ValueError(
            f"`data` must contain {name} with rows of the same shape; pad or cut them."
        ) from error
    if array.ndim == 0:
        raise ValueError(f"`data` must contain {name} as an array, got {type(values).__name__}.")
    return array


def _check_tokens(x: np.ndarray) -> np.ndarray:
    if x.ndim != 2 or x.dtype.kind not in "iu" or x.min() < 0:
        raise ValueError(
            f"`data` must contain tokens as integers [rows, length], at least 0, got {x.dtype} of "
            f"shape {x.shape}."
        )
    return x.astype(np.int32)


def _from_columns(x: np.ndarray, y: Any, groups: Any) -> Raw:
    """Names the columns of an array ``[rows, features]``."""
    x = x.reshape(len(x), -1)
    frame = extra("pandas").DataFrame(x, columns=[f"x{i}" for i in range(x.shape[1])])
    notes = ()
    side = round(x.shape[1] ** 0.5)
    if side >= 8 and side**2 == x.shape[1] and _is_gray(x):
        notes = (
            f"Read as a table of {x.shape[1]} columns; if rows are images, give x the shape "
            f"[rows, {side}, {side}].",
        )
    return Raw(frame, y, "table", groups, notes)


def _from_numbers(x: np.ndarray, y: Any, groups: Any) -> Raw:
    """Distinguishes series from images, and gives images a last axis of channels."""
    if x.dtype.kind not in "biuf" or x.ndim > 4:
        raise ValueError(
            "`data` must contain x as numbers [rows, features], [rows, time, channels] or "
            f"[rows, height, width, channels], got {x.dtype} of shape {x.shape}."
        )
    wrong = 0 if x.dtype.kind in "biu" else int(np.count_nonzero(~np.isfinite(x)))
    if wrong:
        raise ValueError(
            f"`data` must contain finite numbers in x, got {count_of(wrong, 'other')}; replace "
            "them, or leave out their rows."
        )
    if x.ndim == 3 and not _is_gray(x):
        note = f"Read as series of {x.shape[1]} steps and {count_of(x.shape[2], 'channel')}"
        return Raw(x, y, "series", groups, (f"{note}; images have a last axis of channels.",))
    if x.ndim == 3:
        note = f"Read as gray images of {x.shape[1]} x {x.shape[2]} pixels"
        return Raw(x[..., None], y, "image", groups, (f"{note}; series are floating-point.",))
    if x.shape[-1] > 4 and x.shape[1] in (1, 3):
        note = f"Moved the channels of the images to the end: {x.shape[1:]} had them first."
        return Raw(np.moveaxis(x, 1, -1), y, "image", groups, (note,))
    return Raw(x, y, "image", groups)


def _is_gray(x: np.ndarray) -> bool:
    """Returns whether numbers may be pixels: whole, and from 0 to 255."""
    if x.dtype.kind == "b" or x.dtype == np.uint8:
        return True
    if x.dtype.kind not in "iuf" or not np.isfinite(x).all():
        return False
    return bool(x.min() >= 0 and x.max() <= 255 and (x == np.round(x)).all())
