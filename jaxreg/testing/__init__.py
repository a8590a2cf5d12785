"""Checks that a regularizer of your own meets jaxreg's contract.

:func:`check_regularizer` runs the whole contract on a function; :func:`contract` returns the same
checks one by one, to parametrize a test with.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any

from jaxreg import _signatures
from jaxreg.testing import columns, devices, programs
from jaxreg.testing.subject import Subject

__all__ = ["check_regularizer", "contract"]

_NOTHING: Mapping[str, Any] = MappingProxyType({})


def contract(
    function: Callable[..., Any],
    inputs: tuple[Any, ...],
    *,
    strengths: Mapping[str, float] = _NOTHING,
    off: Mapping[str, float] = _NOTHING,
) -> dict[str, Callable[[], None]]:
    """Returns a dict from names to checks, which raise ``AssertionError`` if they fail.

    Args:
      function: Pure function, called as ``function(*inputs, **strengths)``. Bind other options
        first, with ``functools.partial``.
      inputs: Its positional arguments in float32, at a point where it is differentiable. The first
        may be a key; the first array of floats is the data. Arrays whose first axis has the data's
        length are sharded along with it; make that length 16.
      strengths: Numbers that may be traced.
      off: Values of strengths at which the function returns its data unchanged, if there are any.

    Returns:
      Dict with keys such as ``"jit[bfloat16]"`` and functions without arguments as values.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import penalties, testing
      >>> checks = testing.contract(penalties.l2, (jnp.linspace(1.0, 2.0, 16),))
      >>> checks["jit[float32]"]()
    """
    subject = Subject(function, inputs, dict(strengths), dict(off))
    return dict(_checks(subject))


def check_regularizer(
    function: Callable[..., Any],
    inputs: tuple[Any, ...],
    *,
    strengths: Mapping[str, float] = _NOTHING,
    off: Mapping[str, float] = _NOTHING,
) -> None:
    """Runs all checks of :func:`contract` on a function.

    It checks the signature, shape and dtype with float32 arrays as strengths, jit, jvp and grad
    against finite differences, vmap, scan, remat, grad of scan, traced strengths without
    recompilation, identity when off, use of keys, ``shard_map``, sharded arrays on Auto and
    Explicit meshes of all devices, and lowering for CPU, GPU and TPU; in float32, bfloat16 and
    float16.

    Args:
      function: Pure function, see :func:`contract`.
      inputs: Its positional arguments.
      strengths: Numbers that may be traced.
      off: Values of strengths at which the function returns its data unchanged, if there are any.

    Raises:
      AssertionError: A check fails; the message starts with its name.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import testing
      >>> def shrink(w, *, weight):
      ...     factor = 1 / (1 + jnp.asarray(weight, jnp.float32))
      ...     return (w.astype(jnp.float32) * factor).astype(w.dtype)
      >>> testing.check_regularizer(
      ...     shrink, (jnp.linspace(1.0, 2.0, 16),), strengths={"weight": 0.1}
      ... )
    """
    for name, check in contract(function, inputs, strengths=strengths, off=off).items():
        try:
            check()
        except AssertionError as error:
            raise AssertionError(f"{name}: {error}") from error
        except Exception as error:
            error.add_note(f"while checking {name}")
            raise


def _checks(subject: Subject) -> Iterator[tuple[str, Callable[[], None]]]:
    """Yields the name and function of each check that applies to the subject."""
    once = [*columns.ONCE]
    per_dtype = [*columns.PER_DTYPE, *programs.ALWAYS, *devices.PER_DTYPE]
    if subject.strengths:
        once += columns.ONCE_WITH_STRENGTHS
        per_dtype += [*columns.PER_DTYPE_WITH_STRENGTHS, programs.MAPPED_STRENGTHS]
    if subject.off:
        per_dtype += columns.PER_DTYPE_WITH_OFF
    if subject.is_random:
        per_dtype += columns.PER_DTYPE_WITH_KEY
    for check in once:
        yield check.__name__, partial(check, subject)
    for dtype in ("float32", "bfloat16", "float16"):
        at_dtype = subject.at(dtype)
        for check in per_dtype:
            yield f"{check.__name__}[{dtype}]", partial(check, at_dtype)


_signatures.show(__name__)
