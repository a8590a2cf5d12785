"""The origin of a study's data and model, as code that a program can import or call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Origin:
    """Code that loads the data and makes the model of a study.

    Attributes:
      data_import: Import statement for the name that ``data_code`` calls.
      data_code: Expression for a function from a seed to a split, such as ``digits(train_size=9)``.
      model_import: Import statement for the user's function that makes the model; empty for a
        built-in network, whose source the program contains.
      model_code: Expression for the user's function from a recipe to a model.
      network: The built-in network, a module of :mod:`jaxreg.study.networks`; else None.
      batch_size: Rows of a batch.
      learning_rate: Learning rate of Adam.
    """

    data_import: str
    data_code: str
    batch_size: int
    learning_rate: float
    model_import: str = ""
    model_code: str = ""
    network: Any = None
