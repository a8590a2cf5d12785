"""The verdicts on a run, and the changes to try after each."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, NamedTuple


class Verdict(StrEnum):
    """Verdict of :func:`diagnose` on the training and validation losses of a run.

    Attributes:
      HEALTHY: None of the other verdicts applies.
      OVERFITTING: The validation loss rises above the training loss after its minimum, or the
        accuracy is perfect in training and much lower on validation.
      UNDERFITTING: The training loss stays high, or still falls at the end.
      TOO_LITTLE: The validation loss stays far above the training loss without rising, or the run
        overfits although it is compared with a baseline, and thus regularized.
      TOO_MUCH: Regularization costs more in training than it gains in validation, both losses rise
        together, or training ends well above the validation loss.
      UNSTABLE: A loss stops being finite, scatters or jumps, or the training loss rises far from
        its minimum.
      UNDECIDED: The losses look like too much regularization, but the run has none, or scores as
        well as the baseline.
      NOT_ENOUGH: There are too few finite losses to judge by.
    """

    HEALTHY = "healthy"
    OVERFITTING = "overfitting"
    UNDERFITTING = "underfitting"
    TOO_LITTLE = "too little regularization"
    TOO_MUCH = "too much regularization"
    UNSTABLE = "unstable"
    UNDECIDED = "no verdict"
    NOT_ENOUGH = "not enough to say"


class Change(NamedTuple):
    """A change to try after a verdict.

    Attributes:
      what: The change in words.
      address: Function or class of jaxreg that carries it out, such as
        ``jaxreg.dropout.dropout``; empty if there is none.
    """

    what: str
    address: str


CHANGES = {
    Verdict.HEALTHY: (
        Change("keep it; measure whether a technique still helps", "jaxreg.study.compare"),
        Change("stop early as a safety net", "jaxreg.training.early_stopping"),
    ),
    Verdict.OVERFITTING: (
        Change("stop at the best validation loss", "jaxreg.training.early_stopping"),
        Change("decay the weights", "jaxreg.transforms.decoupled_decay"),
        Change("drop hidden units", "jaxreg.dropout.dropout"),
        Change("smooth the labels, if it classifies", "jaxreg.targets.smoothed_cross_entropy"),
        Change("more data, or augmented data", ""),
    ),
    Verdict.UNDERFITTING: (
        Change("train longer, or with a larger learning rate", ""),
        Change("a larger model", ""),
        Change("normalize the activations", "jaxreg.normalization.batch_norm"),
        Change("compare with a baseline without regularization", "jaxreg.study.compare"),
    ),
    Verdict.TOO_LITTLE: (
        Change(
            "decay the weights, or three times as strongly", "jaxreg.transforms.decoupled_decay"
        ),
        Change("drop hidden units, or 0.1 more of them", "jaxreg.dropout.dropout"),
        Change("look for the strength on validation", "jaxreg.study.compare"),
        Change("more data, or augmented data", ""),
    ),
    Verdict.TOO_MUCH: (
        Change(
            "a third of the weight of every penalty and decay", "jaxreg.transforms.decoupled_decay"
        ),
        Change("half of the dropout rate, if it drops units", "jaxreg.dropout.dropout"),
        Change("remove the techniques one by one and compare", "jaxreg.study.compare"),
    ),
    Verdict.UNSTABLE: (
        Change("a third of the learning rate, or warm it up", ""),
        Change("clip gradients, with optax.clip_by_global_norm", ""),
        Change("normalize the activations", "jaxreg.normalization.layer_norm"),
        Change("bound the weights of a unit", "jaxreg.projections.max_norm"),
        Change("larger batches for batch norm, or group norm", "jaxreg.normalization.group_norm"),
    ),
    Verdict.UNDECIDED: (
        Change("go by the score, over more seeds", "jaxreg.study.compare"),
        Change("train for more epochs, until the losses settle", ""),
    ),
    Verdict.NOT_ENOUGH: (
        Change("record a training and a validation loss per epoch, for 5 epochs or more", ""),
    ),
}


def changes_after(verdict: Verdict, parts: Mapping[str, Any] | None) -> tuple[Change, ...]:
    """Returns the changes to try after a verdict, in the order to try them.

    Args:
      verdict: The verdict.
      parts: Strengths of the regularizers of the run by name, or None if they are not known. Only
        these are made weaker or stronger then.
    """
    if parts is None or verdict not in (Verdict.TOO_LITTLE, Verdict.TOO_MUCH):
        return CHANGES[verdict]
    if not parts:
        # There is nothing to make stronger, so a first technique is the change.
        return CHANGES[Verdict.OVERFITTING if verdict == Verdict.TOO_LITTLE else verdict]
    listed = ", ".join(_name(name, strength) for name, strength in parts.items())
    if verdict == Verdict.TOO_LITTLE:
        return (
            Change(f"make stronger: {listed}", "jaxreg.study.compare"),
            Change("more data, or augmented data", ""),
        )
    return (
        Change(f"make weaker: {listed}", "jaxreg.study.compare"),
        Change("remove the techniques one by one and compare", "jaxreg.study.compare"),
    )


def _name(name: str, strength: Any) -> str:
    is_number = isinstance(strength, int | float) and not isinstance(strength, bool)
    return f"{name} (now {strength:g})" if is_number else name
