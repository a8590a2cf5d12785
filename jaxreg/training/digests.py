"""Digests of pytrees, to check that a loaded state is exactly the saved one.

A bit that flips on a disk or on the way to it goes unnoticed: Orbax checks its own records, but
loads array data unchecked. So store the digests of a state beside it, and verify the state after
loading. They are strings in a flat dictionary, ``{"dense/kernel": "float32[64,10] 9f86d0..."}``,
which can be saved as JSON. They show which leaves changed, are missing, were added, or came back
with another shape or dtype.

They guard against accidents, but are not a signature: anyone who can write the state can write
them.

Example:
  >>> import jax, jax.numpy as jnp
  >>> from jaxreg.training import digests
  >>> saved = {"w": jnp.ones(3), "key": jax.random.key(0)}
  >>> taken = digests.digest(saved)
  >>> digests.verify(saved, taken)
  >>> digests.verify(saved | {"w": jnp.array([1.0, 1.0, 1.0000001])}, taken)
  Traceback (most recent call last):
  ValueError: `tree` must match its saved digests, but `w` differs; load an earlier checkpoint.

References:
  NIST, `Secure Hash Standard <https://doi.org/10.6028/NIST.FIPS.180-4>`_, 2015
"""

import hashlib
import struct
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxreg import _signatures
from jaxreg._paths import path_names

__all__ = ["digest", "verify"]


def digest(tree: Any) -> dict[str, str]:
    """Returns the dtype, shape and SHA-256 hash of every leaf, keyed by its path.

    Two leaves have the same digest if dtype, shape and all bytes agree: NaN equals NaN with the
    same bits, and 0.0 differs from -0.0. The device and the sharding of an array do not matter, nor
    whether it is from JAX or NumPy. Tuples and mappings whose leaves have the same names are
    equivalent. ``None`` has no digest.

    Args:
      tree: Pytree of arrays, PRNG keys (typed ones with their implementation), Python numbers and
        strings. Every process must be able to read whole arrays; gather arrays that are spread over
        several processes with ``jax.experimental.multihost_utils.process_allgather``.

    Returns:
      Dict from the names along each leaf's path, joined by ``/``, to ``"dtype[shape] hash"``.

    Raises:
      TypeError: A leaf has another type.
      ValueError: Two leaves have the same name.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg.training import digests
      >>> taken = digests.digest({"dense": {"kernel": jnp.zeros((64, 10))}, "epoch": 3})
      >>> {name: value.split()[0] for name, value in taken.items()}
      {'dense/kernel': 'float32[64,10]', 'epoch': 'int[]'}

    References:
      NIST, `Secure Hash Standard <https://doi.org/10.6028/NIST.FIPS.180-4>`_, 2015
    """
    found: dict[str, str] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        name = "/".join(path_names(path))
        if name in found:
            raise ValueError(
                f"`tree` must give every leaf a different name, got `{name}` twice; rename one."
            )
        kind, data = _content(name, leaf)
        value = hashlib.sha256(f"{kind} ".encode())
        value.update(data)
        found[name] = f"{kind} {value.hexdigest()}"
    return found


def verify(tree: Any, digests: Mapping[str, str]) -> None:
    """Raises unless the digests of ``tree`` equal ``digests``.

    Args:
      tree: Pytree with leaves that :func:`digest` accepts.
      digests: Result of :func:`digest` for the tree that was saved.

    Raises:
      TypeError: ``digests`` is not a mapping.
      ValueError: The tree differs; the message names every leaf that differs, is missing,
        has no digest, or has another shape or dtype.

    Example:
      >>> import numpy as np
      >>> from jaxreg.training import digests
      >>> taken = digests.digest({"a": np.zeros(2), "b": 1})
      >>> digests.verify({"a": np.zeros(2), "b": 1}, taken)
    """
    if not isinstance(digests, Mapping):
        raise TypeError(f"`digests` must be a result of `digest`, got {type(digests).__name__}.")
    found = digest(tree)
    names = sorted(found.keys() | digests.keys())
    differences = [
        _difference(name, found.get(name), digests.get(name))
        for name in names
        if name not in found or name not in digests or found[name] != digests[name]
    ]
    if differences:
        raise ValueError(
            f"`tree` must match its saved digests, but {', '.join(differences)}; "
            "load an earlier checkpoint."
        )


def _content(name: str, leaf: Any) -> tuple[str, bytes | memoryview]:
    """Returns the dtype and shape of a leaf as text, and its bytes, the same on every machine."""
    match leaf:
        case jax.Array() if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return _kind(leaf), _bytes(np.asarray(jax.random.key_data(leaf)))
        case jax.Array() | np.ndarray() | np.generic() if not np.dtype(leaf.dtype).hasobject:
            return _kind(leaf), _bytes(np.asarray(leaf))
        case bool() | int() | str():
            return f"{type(leaf).__name__}[]", str(leaf).encode()
        case float():
            return "float[]", struct.pack("<d", leaf)
        case complex():
            return "complex[]", struct.pack("<dd", leaf.real, leaf.imag)
    raise TypeError(
        f"`tree` must contain only arrays, keys, numbers and strings, got {type(leaf).__name__} at "
        f"`{name}`; leave it out, or store numbers that describe it."
    )


def _kind(leaf: Any) -> str:
    """Returns the dtype and shape of a leaf as text, such as ``bfloat16[3,4]``, ``key<fry>[]``."""
    return f"{leaf.dtype.name}[{','.join(map(str, leaf.shape))}]"


def _bytes(array: np.ndarray) -> memoryview:
    """Returns the bytes of an array in C order and little-endian."""
    ordered = array.astype(array.dtype.newbyteorder("<"), copy=False)
    return np.ascontiguousarray(ordered).reshape(-1).view(np.uint8).data


def _difference(name: str, found: str | None, expected: Any) -> str:
    """Describes the mismatch between two digests of the leaf ``name``."""
    if found is None:
        return f"`{name}` is missing"
    if expected is None:
        return f"`{name}` has no digest"
    now = found.partition(" ")[0]
    before = str(expected).partition(" ")[0]
    return f"`{name}` differs" if now == before else f"`{name}` is {now} and was {before}"


_signatures.show(__name__)
