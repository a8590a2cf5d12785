"""Base classes of NNX modules that apply a random function to their input in training mode."""

import dataclasses
import functools
import inspect
import types
from collections.abc import Callable
from typing import Any, TypeVar

import jax
from flax import nnx
from jax.typing import ArrayLike

from jaxreg import _bits, dropout
from jaxreg._checks import check_given, check_rate, is_static_zero
from jaxreg.nnx._strengths import Module, shallow_copy

Source = nnx.Rngs | nnx.RngStream | jax.Array
Method = TypeVar("Method", bound=Callable[..., Any])


class _Hidden:
    """Method hidden from ``flax.nnx.tabulate``, which would list and compile it separately."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        functools.update_wrapper(self, function)

    def __get__(self, instance: Any, owner: type) -> Any:
        return self if instance is None else types.MethodType(self.function, instance)

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        return self.function(*arguments, **options)


def hide(method: Method) -> Method:
    """Returns the method, hidden from ``flax.nnx.tabulate``."""
    return _Hidden(method)  # pyright: ignore[reportReturnType]


@nnx.dataclass(eq=False)
class Stochastic(Module):
    """Returns ``transform(key, x)`` in training mode, otherwise ``evaluate(x)``, by default ``x``.

    Subclass it to turn your own function into a module: the fields are its strengths, and
    ``transform`` calls it. The input may be any pytree. Under ``flax.nnx.jit`` every call draws new
    masks. Under plain ``jax.jit`` every call repeats the first masks, because the stream does not
    advance.

    Strengths are the fields annotated with ``jax.typing.ArrayLike``. A strength that is an array is
    part of the state; a Python number is not.

    Attributes:
      deterministic: True in evaluation mode; ``model.eval()`` and ``flax.nnx.view`` set it too.
        None if every call passes it.
      rng_collection: Name of the PRNG stream that keys come from.
      axis_name: Mesh axis along which devices need different keys, in ``shard_map`` or ``pmap``.
      bits: Source of random bits in place of the package's own, such as ``jax.random.bits``.
      rngs: PRNG streams, from which this module forks its own; None if every training call passes
        them.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from flax import nnx as flax_nnx
      >>> from jaxreg import nnx
      >>> class Sign(nnx.Stochastic):
      ...     def transform(self, key, x):
      ...         return x * jax.random.rademacher(key, x.shape, x.dtype)
      >>> print(abs(Sign(rngs=flax_nnx.Rngs(0))(jnp.ones(8))))
      [1. 1. 1. 1. 1. 1. 1. 1.]
    """

    _: dataclasses.KW_ONLY
    deterministic: bool | None = False
    rng_collection: str = "dropout"
    axis_name: str | tuple[str, ...] | None = None
    bits: _bits.Bits | None = None
    rngs: dataclasses.InitVar[nnx.Rngs | nnx.RngStream | None] = None

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        for name in ("transform", "evaluate", "is_off", "make_key"):
            if inspect.isfunction(method := vars(cls).get(name)):
                setattr(cls, name, hide(method))

    def __post_init__(self, rngs: nnx.Rngs | nnx.RngStream | None) -> None:
        stream = None if rngs is None else self._stream(rngs).fork()
        self.rngs = nnx.data(stream)  # pyright: ignore[reportAttributeAccessIssue]

    @hide
    def transform(self, key: jax.Array, x: Any) -> Any:
        """Returns the output in training mode, given a PRNG key; subclasses must define it.

        Args:
          key: PRNG key of this call.
          x: Input of the call.
        """
        raise NotImplementedError(f"{type(self).__name__} must define `transform(key, x)`.")

    @hide
    def evaluate(self, x: Any) -> Any:
        """Returns the output in evaluation mode: ``x``, unless a subclass overrides this.

        Args:
          x: Input of the call.
        """
        return x

    @hide
    def is_off(self) -> bool:
        """Returns whether training mode needs no key, because it acts like evaluation mode."""
        return False

    def __call__(
        self, inputs: Any, *, deterministic: bool | None = None, rngs: Source | None = None
    ) -> Any:
        """Returns ``transform(key, inputs)`` in training mode, otherwise ``evaluate(inputs)``.

        Args:
          inputs: Input.
          deterministic: Overrides the attribute.
          rngs: Key, stream or streams to use in place of the module's own.
        """
        return self._apply(inputs, deterministic=deterministic, rngs=rngs)

    def _apply(
        self, x: Any, *, deterministic: bool | None, rngs: Source | None, **strengths: Any
    ) -> Any:
        """Calls ``transform`` or ``evaluate``, with ``strengths`` overriding the attributes."""
        given = {name: value for name, value in strengths.items() if value is not None}
        module = shallow_copy(self, **given) if given else self
        if self._evaluates(deterministic) or module.is_off():
            return module.evaluate(x)
        return module.transform(self.make_key(rngs), x)

    def _evaluates(self, deterministic: bool | None = None) -> bool:  # noqa: FBT001
        """Returns whether a call with this ``deterministic`` runs in evaluation mode."""
        evaluates = self.deterministic if deterministic is None else deterministic
        if evaluates is None:
            raise ValueError(
                f"`deterministic` must be given to {type(self).__name__} in its constructor or "
                "when called, got None for both; pass deterministic=True in evaluation mode and "
                "False in training mode, or set it with nnx.view."
            )
        return evaluates

    @hide
    def make_key(self, rngs: Source | None = None) -> jax.Array:
        """Returns the next key, distinct on each device along ``axis_name``.

        Args:
          rngs: Key, stream or streams to use in place of the module's own.

        Raises:
          ValueError: ``rngs`` is given neither here nor to the constructor.
        """
        own = self.rngs  # pyright: ignore[reportAttributeAccessIssue]
        source = own if rngs is None else rngs
        if source is None:
            raise ValueError(
                "`deterministic` is False, but no `rngs` argument was provided to "
                f"{type(self).__name__}; pass rngs=nnx.Rngs(seed) to its constructor or at the "
                "call, or deterministic=True in evaluation mode."
            )
        key = source if isinstance(source, jax.Array) else self._stream(source)()
        return key if self.axis_name is None else dropout.fold_in_axis(key, self.axis_name)

    def set_view(self, deterministic: bool | None = None) -> None:  # noqa: FBT001
        """Switches between training and evaluation mode; called by ``flax.nnx.view``.

        Args:
          deterministic: True in evaluation mode.
        """
        if deterministic is not None:
            self.deterministic = deterministic

    def _stream(self, rngs: nnx.Rngs | nnx.RngStream) -> nnx.RngStream:
        if isinstance(rngs, nnx.RngStream):
            return rngs
        if isinstance(rngs, nnx.Rngs):
            return rngs[self.rng_collection]
        raise TypeError(
            f"`rngs` must be a PRNG key or streams, got {type(rngs).__name__}; pass nnx.Rngs(seed)."
        )


@nnx.dataclass(eq=False)
class Rated(Stochastic):
    """Base class of modules with a rate; a rate of Python or NumPy 0 needs no key.

    Attributes:
      rate: Probability of dropping; None if every call passes it.
    """

    rate: ArrayLike | None = None

    def __post_init__(self, rngs: nnx.Rngs | nnx.RngStream | None) -> None:
        if self.rate is not None:
            check_rate(self.rate)
        super().__post_init__(rngs)

    @property
    def given_rate(self) -> ArrayLike:
        """The rate; raises ``ValueError`` if it is None."""
        return check_given(self.rate, "rate", self)

    def is_off(self) -> bool:
        return is_static_zero(self.rate)

    def __call__(
        self,
        inputs: Any,
        *,
        deterministic: bool | None = None,
        rngs: Source | None = None,
        rate: ArrayLike | None = None,
    ) -> Any:
        """Returns ``transform(key, inputs)`` in training mode, otherwise ``evaluate(inputs)``.

        Args:
          inputs: Input.
          deterministic: Overrides the attribute.
          rngs: Key, stream or streams to use in place of the module's own.
          rate: Overrides the attribute.
        """
        return self._apply(inputs, deterministic=deterministic, rngs=rngs, rate=rate)


@nnx.dataclass(eq=False)
class Wrapper(Stochastic):
    """Base class of modules that wrap a layer.

    ``transform`` and ``evaluate`` receive the positional and the keyword arguments as a pair.

    Attributes:
      layer: NNX module to call.
    """

    layer: nnx.Module

    def evaluate(self, x: tuple[tuple[Any, ...], dict[str, Any]]) -> Any:
        inputs, options = x
        return self.layer(*inputs, **options)


@nnx.dataclass(eq=False)
class RatedWrapper(Rated, Wrapper):
    """Base class of modules that wrap a layer and have a rate."""

    def __call__(
        self,
        *inputs: Any,
        deterministic: bool | None = None,
        rngs: Source | None = None,
        rate: ArrayLike | None = None,
        **options: Any,
    ) -> Any:
        """Calls the layer.

        Args:
          *inputs: Arguments of the layer.
          deterministic: Overrides the attribute; it is not passed to the layer.
          rngs: Key, stream or streams to use in place of the module's own.
          rate: Overrides the attribute.
          **options: Keyword arguments of the layer.
        """
        return self._apply((inputs, options), deterministic=deterministic, rngs=rngs, rate=rate)


def check_streams(module: nnx.Module, rngs: nnx.Rngs | nnx.RngStream | None) -> nnx.Rngs:
    """Returns ``rngs``; raises ``TypeError`` unless they are ``flax.nnx.Rngs``."""
    if isinstance(rngs, nnx.Rngs):
        return rngs
    raise TypeError(
        f"`rngs` of {type(module).__name__}, which has parameters, must be nnx.Rngs, got "
        f"{type(rngs).__name__}; pass nnx.Rngs(seed)."
    )
