"""Recipes, which map arms to strengths, and augmentation policies."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax

from jaxreg.study.arms import ARMS, Arm, find

POLICY = "policy"
# Names of the arms that change the program; runs that share them are trained together.
Structure = tuple[str, ...]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Policy:
    """Augmentations applied to each example in sequence, each with its own probability.

    A policy is a pytree of magnitudes and probabilities, so a search over them compiles only once.

    Attributes:
      names: Names of operations, from :data:`jaxreg.study.operations.OPERATIONS`.
      magnitudes: Magnitude of each operation; 0 means no change.
      probabilities: Probability of applying each operation to an example, in ``[0, 1]``.

    Example:
      >>> from jaxreg.study import Policy
      >>> print(Policy(("rotate", "cutout"), (0.1, 0.25), (0.5, 1.0)))
      rotate 0.1 (p 0.5), cutout 0.25 (p 1)
    """

    names: tuple[str, ...] = dataclasses.field(metadata={"static": True})
    magnitudes: tuple[Any, ...]
    probabilities: tuple[Any, ...]

    def __str__(self) -> str:
        """Returns a text with the name, magnitude and probability of each operation."""
        rows = zip(self.names, self.magnitudes, self.probabilities, strict=True)
        return ", ".join(f"{name} {size:.3g} (p {share:.3g})" for name, size, share in rows)


@jax.tree_util.register_pytree_node_class
class Recipe(Mapping[str, Any]):
    """An immutable mapping from the arms that are on to their strengths.

    A recipe is a pytree whose leaves are the strengths, so a whole grid of recipes is one recipe
    with array leaves. Arms without a strength are True and part of the structure. A name that is
    not in the mapping is off. As an attribute, every arm has a value: ``recipe.dropout`` is 0.0 if
    dropout is off, and ``recipe.batch_norm`` is False.

    Args:
      strengths: Strengths by the names that ``jaxreg list`` prints, in the ranges of
        :data:`jaxreg.study.arms.ARMS`. The name ``"policy"`` takes a :class:`Policy`.

    Raises:
      ValueError: There is no such arm, or a number is out of range. Arrays are not checked.

    Example:
      >>> from jaxreg.study import Recipe
      >>> recipe = Recipe({"l2": 0.1, "dropout": 0.5})
      >>> recipe["l2"], recipe.dropout, recipe.l1, recipe.batch_norm
      (0.1, 0.5, 0.0, False)
      >>> Recipe({"l2": 0.0}) == Recipe({})
      True
    """

    __slots__ = ("_strengths",)
    _strengths: Mapping[str, Any]

    def __init__(self, strengths: Mapping[str, Any] | None = None) -> None:
        on = {}
        for name, value in (strengths or {}).items():
            if name == POLICY:
                _check_policy(value)
                if value is not None:
                    on[name] = value
                continue
            arm = find(name)
            if arm.name != name and arm.name in (strengths or {}):
                raise ValueError(
                    f"`{name}` must not be given with `{arm.name}`: they are the same arm."
                )
            _check_strength(arm, value)
            if not _is_off(arm, value):
                on[arm.name] = value
        object.__setattr__(self, "_strengths", _in_order(on))

    def __getitem__(self, name: str) -> Any:
        return self._strengths[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._strengths)

    def __len__(self) -> int:
        return len(self._strengths)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        if name == POLICY:
            return self._strengths.get(name)
        try:
            arm = find(name)
        except ValueError as error:
            raise AttributeError(str(error)) from None
        return self._strengths.get(arm.name, arm.off)

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"a recipe is immutable; make a new one with `{name}`.")

    def __hash__(self) -> int:
        return hash(tuple(self._strengths.items()))

    def __repr__(self) -> str:
        return f"Recipe({dict(self._strengths)})"

    def __reduce__(self) -> Any:
        return _restore, (dict(self._strengths),)

    def tree_flatten(self) -> tuple[tuple[Any, ...], tuple[str, ...]]:
        """Returns the strengths, and the names of all arms."""
        leaves = tuple(value for name, value in self.items() if _is_leaf(name))
        return leaves, tuple(self)

    @classmethod
    def tree_unflatten(cls, names: tuple[str, ...], leaves: Sequence[Any]) -> Recipe:
        """Returns the recipe with these strengths, which are not checked.

        Args:
          names: Names of the arms that are on.
          leaves: Strengths of the arms that have one, in the order of ``names``.
        """
        rest = iter(leaves)
        return _restore({name: next(rest) if _is_leaf(name) else True for name in names})

    @property
    def structure(self) -> Structure:
        """Names of the arms and the operations that change the compiled program."""
        on = [name for name in self if name != POLICY and not ARMS[name].cheap]
        # Policies with the same operations share a program.
        policy = self._strengths.get(POLICY)
        return (*on, *(f"policy {name}" for name in (policy.names if policy else ())))

    def with_cheap(self) -> Recipe:
        """Returns the recipe with a strength for each cheap arm, so that programs are shared."""
        cheap = {name: arm.off for name, arm in ARMS.items() if arm.cheap}
        return _restore(_in_order(cheap | dict(self._strengths)))


def _restore(strengths: Mapping[str, Any]) -> Recipe:
    recipe = object.__new__(Recipe)
    object.__setattr__(recipe, "_strengths", strengths)
    return recipe


def _in_order(strengths: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns the strengths in the order of ``ARMS``, so that equal recipes share a structure."""
    return {name: strengths[name] for name in (*ARMS, POLICY) if name in strengths}


def _is_leaf(name: str) -> bool:
    """Returns whether an arm has a strength, which may be traced."""
    return name == POLICY or ARMS[name].has_strength


def _check_policy(value: Any) -> None:
    if not (value is None or isinstance(value, Policy)):
        raise ValueError(f"`policy` must be a jaxreg.study.Policy or None, got {value!r}.")


def _check_strength(arm: Arm[Any], value: Any) -> None:
    """Raises ValueError if a value is not a strength, or is a number outside the arm's range."""
    if not arm.has_strength:
        if not isinstance(value, bool):
            raise ValueError(f"`{arm.name}` must be True or False, got {value!r}.")
    elif isinstance(value, bool) or not (isinstance(value, int | float) or hasattr(value, "dtype")):
        raise ValueError(f"`{arm.name}` must be a number, {arm.rule.text}, got {value!r}.")
    elif isinstance(value, int | float) and not arm.rule.holds(value):
        raise ValueError(
            f"`{arm.name}` must be {arm.rule.text}, got {value}; leave it out to switch it off."
        )


def _is_off(arm: Arm[Any], value: Any) -> bool:
    return isinstance(value, int | float) and value == arm.off


def combine(recipes: Sequence[Recipe]) -> Recipe:
    """Returns a recipe with all arms of the given recipes.

    Args:
      recipes: Recipes with different arms. If two have the same arm, or arms that replace each
        other, such as two norms, the last one takes precedence.

    Returns:
      The combined recipe.

    Example:
      >>> from jaxreg.study.recipes import Recipe, combine
      >>> combine([Recipe({"l2": 0.5}), Recipe({"dropout": 0.2})]).dropout
      0.2
    """
    joined: dict[str, Any] = {}
    for recipe in recipes:
        slots = {ARMS[name].slot for name in recipe if name != POLICY} - {""}
        others = (n for n in joined if n != POLICY and ARMS[n].slot in slots)
        for name in list(others):
            del joined[name]
        joined |= recipe
    return Recipe(joined)
