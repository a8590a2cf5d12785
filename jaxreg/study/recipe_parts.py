"""What the program that a study hands over consists of."""

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
    """What the program consists of, which follows from the recipe and the data."""

    on: dict[str, float | None]
    task: Task
    data: str
    train_size: int
    validation_size: int
    epochs: int
    policy: Policy | None = None

    @property
    def inputs(self) -> list[str]:
        """What changes a batch before the model sees it, in the order of the study."""
        return [name for name in INPUTS if name in self.on]

    @property
    def mixes(self) -> bool:
        """Whether labels become distributions."""
        return bool(self.on.keys() & set(MIXING))

    @property
    def source(self) -> str:
        """The data set of scikit-learn that the rows come from."""
        return {"digit_rows": "digits"}.get(self.data, self.data)

    @property
    def shaped(self) -> bool:
        """Whether rows cannot come flat."""
        special = any("table" not in each for each in kinds(self.on, self.policy))
        return special or bool(self.task.vocabulary)

    @property
    def scaled(self) -> bool:
        """Whether something asks how the features were standardized."""
        operations = self.policy.names if self.policy else ()
        return any("deviation" in INPUTS[name].code for name in self.inputs) or any(
            OPERATIONS[name].measured for name in operations
        )

    @property
    def terms(self) -> list[str]:
        """What is added to the loss, in the order of the study."""
        return [name for name in TERMS if name in self.on]

    @property
    def links(self) -> list[str]:
        """What stands before and after Adam in the chain."""
        return [name for name in (*BEFORE, *AFTER) if name in self.on]

    @property
    def wrappers(self) -> list[str]:
        """What is built around the chain, from the inside out."""
        return [name for name in AROUND if name in self.on]

    @property
    def perturbed(self) -> bool:
        """Whether the optimizer asks for gradients elsewhere."""
        return bool(self.on.keys() & SHARPNESS)

    @property
    def averaging(self) -> bool:
        """Whether an average of the parameters is evaluated in their place."""
        return bool(self.on.keys() & AVERAGING)

    @property
    def sown(self) -> bool:
        """Whether layers of the model sow penalties."""
        return bool(self.on.keys() & SOWING)

    @property
    def noisy(self) -> bool:
        """Whether layers of the model draw from the stream of noise."""
        return bool(self.on.keys() & {"dropout", "l0", "bottleneck"})

    @property
    def modes(self) -> bool:
        """Whether the model is another one in training than in evaluation."""
        return self.noisy or self.sown or "batch_norm" in self.on

    @property
    def arguments(self) -> str:
        """What the loss takes besides the batch."""
        keyed = self.noisy or any("key=" in TERMS[name].code for name in self.terms)
        scale = ", mean, deviation" * self.scaled
        keyed = keyed or bool(self.inputs or self.policy)
        return ", key" * keyed + ", start" * ("distance" in self.on) + scale

    @property
    def watched(self) -> str:
        """The rows that the loop evaluates on: those it stops on must not be the test rows."""
        return "validation" if "early_stopping" in self.on else "test"


def kinds(on: Iterable[str], policy: Policy | None) -> list[tuple[str, ...]]:
    """Lists the kinds of rows that each technique and each operation of a policy is for."""
    operations = policy.names if policy else ()
    return [
        *(each.kinds for each in TECHNIQUES if each.name in on),
        *(OPERATIONS[name].kinds for name in operations),
    ]


def literal(value: float | None) -> str:
    """Writes a strength with four digits, which no training run can tell from all of them."""
    return f"{value:.4g}"
