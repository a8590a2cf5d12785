"""Base classes of Linen modules that apply a random function to their input in training mode."""

import inspect
from typing import Any, TypeVar

import jax
from flax import linen as nn
from flax.core.scope import Scope
from jax.typing import ArrayLike

from jaxreg import _bits, dropout
from jaxreg._checks import check_given, check_rate, is_static_zero

Self = TypeVar("Self", bound=nn.Module)
_HOOKS = ("transform", "evaluate", "is_off")  # Methods that `tabulate` must not list.


class Stochastic(nn.Module, kw_only=True):
    """Returns ``transform(key, x)`` in training mode, otherwise ``evaluate(x)``, by default ``x``.

    Subclass it to turn your own function into a module: the fields are its strengths, and
    ``transform`` calls it. The input may be any pytree.

    Attributes:
      deterministic: True in evaluation mode, False in training mode; None if every call passes it.
      rng_collection: Name of the PRNG stream that keys come from.
      axis_name: Mesh axis along which devices need different keys, in ``shard_map`` or ``pmap``.
      bits: Source of random bits in place of the package's own, such as ``jax.random.bits``.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg import linen
      >>> class Sign(linen.Stochastic):
      ...     def transform(self, key, x):
      ...         return x * jax.random.rademacher(key, x.shape, x.dtype)
      >>> keys = {"dropout": jax.random.key(0)}
      >>> y = Sign().apply({}, jnp.ones(8), deterministic=False, rngs=keys)
      >>> print(abs(y))
      [1. 1. 1. 1. 1. 1. 1. 1.]
    """

    deterministic: bool | None = None
    rng_collection: str = "dropout"
    axis_name: str | tuple[str, ...] | None = None
    bits: _bits.Bits | None = None

    def __init_subclass__(cls, **options: Any) -> None:
        for name in _HOOKS:
            method = vars(cls).get(name)
            if inspect.isfunction(method) and not hasattr(method, "compact"):
                nn.nowrap(method)
        super().__init_subclass__(**options)

    @nn.nowrap
    def transform(self, key: jax.Array, x: Any) -> Any:
        """Returns the output in training mode, given a PRNG key; subclasses must define it.

        Args:
          key: PRNG key of this call.
          x: Input of the call.
        """
        raise NotImplementedError(f"{type(self).__name__} must define `transform(key, x)`.")

    @nn.nowrap
    def evaluate(self, x: Any) -> Any:
        """Returns the output in evaluation mode: ``x``, unless a subclass overrides this.

        Args:
          x: Input of the call.
        """
        return x

    @nn.nowrap
    def is_off(self) -> bool:
        """Returns whether training mode needs no key, because it acts like evaluation mode."""
        return False

    def __call__(
        self,
        inputs: Any,
        deterministic: bool | None = None,  # noqa: FBT001
        rng: jax.Array | None = None,
    ) -> Any:
        """Returns ``transform(key, inputs)`` in training mode, otherwise ``evaluate(inputs)``.

        Args:
          inputs: Input.
          deterministic: True in evaluation mode; required here or in the constructor.
          rng: PRNG key to use in place of one from the stream.
        """
        return self._apply(inputs, deterministic=deterministic, rng=rng)

    @nn.nowrap
    def _apply(
        self, x: Any, *, deterministic: bool | None, rng: jax.Array | None, **strengths: Any
    ) -> Any:
        """Calls ``transform`` or ``evaluate``, with ``strengths`` overriding the attributes."""
        given = {name: value for name, value in strengths.items() if value is not None}
        module = shallow_copy(self, **given) if given else self
        evaluates = nn.merge_param("deterministic", self.deterministic, deterministic)
        if evaluates or module.is_off():
            return module.evaluate(x)
        key = self.make_rng(self.rng_collection) if rng is None else rng
        if self.axis_name is not None and not self.is_initializing():
            key = dropout.fold_in_axis(key, self.axis_name)
        return module.transform(key, x)


class Rated(Stochastic):
    """Base class of modules with a rate; a rate of Python or NumPy 0 needs no key.

    Attributes:
      rate: Probability of dropping; None if every call passes it.
    """

    rate: ArrayLike | None = None

    def __post_init__(self) -> None:
        if self.rate is not None:
            check_rate(self.rate)
        super().__post_init__()

    def is_off(self) -> bool:
        return is_static_zero(self.rate) or super().is_off()

    @property
    def given_rate(self) -> ArrayLike:
        """The rate; raises ``ValueError`` if it is None."""
        return check_given(self.rate, "rate", self)

    def __call__(
        self,
        inputs: Any,
        deterministic: bool | None = None,  # noqa: FBT001
        rng: jax.Array | None = None,
        *,
        rate: ArrayLike | None = None,
    ) -> Any:
        """Returns ``transform(key, inputs)`` in training mode, otherwise ``evaluate(inputs)``.

        Args:
          inputs: Input.
          deterministic: True in evaluation mode; required here or in the constructor.
          rng: PRNG key to use in place of one from the stream.
          rate: Overrides the attribute.
        """
        return self._apply(inputs, deterministic=deterministic, rng=rng, rate=rate)


class Parametric(Stochastic):
    """Base class of modules with parameters; ``init`` calls them in evaluation mode.

    So both modes have the same parameters, which are also Flax's.
    """

    def is_off(self) -> bool:
        return self.is_initializing() or super().is_off()


class Wrapper(Parametric):
    """Base class of modules that wrap a layer; the layer's variables keep their paths.

    ``transform`` and ``evaluate`` receive the positional and the keyword arguments as a pair.

    Attributes:
      layer: Linen module to call.
    """

    layer: nn.Module

    def setup(self) -> None:
        share_scope(self, self.layer)

    def evaluate(self, x: tuple[tuple[Any, ...], dict[str, Any]]) -> Any:
        inputs, options = x
        return self.layer(*inputs, **options)


class RatedWrapper(Rated, Wrapper):
    """Base class of modules that wrap a layer and have a rate."""

    def __call__(
        self,
        *inputs: Any,
        deterministic: bool | None = None,
        rng: jax.Array | None = None,
        rate: ArrayLike | None = None,
        **options: Any,
    ) -> Any:
        """Calls the layer.

        Args:
          *inputs: Arguments of the layer.
          deterministic: True in evaluation mode; required here or in the constructor. It is not
            passed to the layer.
          rng: PRNG key to use in place of one from the stream.
          rate: Overrides the attribute.
          **options: Keyword arguments of the layer.
        """
        call = (inputs, options)
        return self._apply(call, deterministic=deterministic, rng=rng, rate=rate)


def shallow_copy(module: Self, **attributes: Any) -> Self:
    """Returns a copy with the given attributes that shares the scope and layers of ``module``."""
    copy = object.__new__(type(module))
    vars(copy).update(vars(module), **attributes)
    return copy


def share_scope(module: nn.Module, wrapped: nn.Module) -> None:
    """Makes a wrapper and its wrapped module share a scope, so variable paths do not change."""
    assert module.scope is not None
    assert wrapped.scope is not None
    if wrapped.scope.parent is module.scope:
        _release_name(module.scope, wrapped.scope.name)
    nn.share_scope(module, wrapped)


def _release_name(scope: Scope, name: str | None) -> None:
    """Frees the reserved name of a child scope of ``scope``."""
    # `nn.share_scope` drops the inner scope but leaves its name reserved. Nested wrappers would
    # fail, because each has its layer under the name `layer`. Flax has no public call to free it.
    scope.reservations.pop(name, None)  # type: ignore[arg-type]
