"""Derives the contents of ``recipe.py`` from a recipe and its data."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from jaxreg.study.data import Task
from jaxreg.study.inputs import INPUTS, MIXING
from jaxreg.study.operations import OPERATIONS
from jaxreg.study.optimizers import AFTER, AROUND, AVERAGING, BEFORE, SHARPNESS
from jaxreg.study.recipes import Policy
from jaxreg.study.technique_rows import TECHNIQUES
from jaxreg.study.terms import TERMS

SOWING = {"activity_l1", "decorrelation", "l0", "bottleneck"}


class Parts(NamedTuple):
    """Recipe and data of the program, with properties that decide its contents."""

    on: dict[str, float | None]
    task: Task
    data: str
    train_size: int
    validation_size: int
    epochs: int
    policy: Policy | None = None

    @property
    def inputs(self) -> list[str]:
        """Names of the augmentations that are on, in the order of the study."""
        return [name for name in INPUTS if name in self.on]

    @property
    def mixes(self) -> bool:
        """True if an augmentation mixes labels into distributions."""
        return bool(self.on.keys() & set(MIXING))

    @property
    def source(self) -> str:
        """Name of the scikit-learn data set that the rows come from."""
        return {"digit_rows": "digits"}.get(self.data, self.data)

    @property
    def needs_shape(self) -> bool:
        """True if rows must keep their shape, for a technique or a word embedding."""
        special = any("table" not in each for each in kinds(self.on, self.policy))
        return special or bool(self.task.vocabulary)

    @property
    def needs_scale(self) -> bool:
        """True if an augmentation needs the mean and the standard deviation of the rows."""
        operations = self.policy.names if self.policy else ()
        return any(INPUTS[name].needs_scale for name in self.inputs) or any(
            OPERATIONS[name].measured for name in operations
        )

    @property
    def terms(self) -> list[str]:
        """Names of the penalties added to the loss, in the order of the study."""
        return [name for name in TERMS if name in self.on]

    @property
    def links(self) -> list[str]:
        """Names of the techniques chained before and after Adam."""
        return [name for name in (*BEFORE, *AFTER) if name in self.on]

    @property
    def wrappers(self) -> list[str]:
        """Names of the techniques that wrap the optimizer, innermost first."""
        return [name for name in AROUND if name in self.on]

    @property
    def needs_grad_fn(self) -> bool:
        """True if the optimizer needs a ``grad_fn`` for gradients at perturbed parameters."""
        return bool(self.on.keys() & SHARPNESS)

    @property
    def averages(self) -> bool:
        """True if averaged parameters are evaluated in place of the newest."""
        return bool(self.on.keys() & AVERAGING)

    @property
    def sows(self) -> bool:
        """True if layers of the model sow penalties."""
        return bool(self.on.keys() & SOWING)

    @property
    def has_noise(self) -> bool:
        """True if layers of the model draw noise."""
        return bool(self.on.keys() & {"dropout", "l0", "bottleneck"})

    @property
    def has_modes(self) -> bool:
        """True if the model takes ``train=`` because training differs from evaluation."""
        return self.has_noise or self.sows or "batch_norm" in self.on

    @property
    def arguments(self) -> str:
        """Further arguments of ``loss`` after the batch, such as ``", key, start"``."""
        draws = any("key=" in TERMS[name].code for name in self.terms)
        text = ""
        if self.has_noise or draws or self.inputs or self.policy:
            text += ", key"
        if "distance" in self.on:
            text += ", start"
        if self.needs_scale:
            text += ", mean, stddev"
        return text

    @property
    def held_out(self) -> str:
        """Set evaluated after each epoch: "validation" with early stopping, else "test"."""
        return "validation" if "early_stopping" in self.on else "test"


def kinds(on: Iterable[str], policy: Policy | None) -> list[tuple[str, ...]]:
    """Returns the accepted kinds of rows of each technique and each policy operation."""
    operations = policy.names if policy else ()
    return [
        *(each.kinds for each in TECHNIQUES if each.name in on),
        *(OPERATIONS[name].kinds for name in operations),
    ]


def literal(value: float | None) -> str:
    """Formats a strength as a literal with four significant digits."""
    return f"{value:.4g}"
