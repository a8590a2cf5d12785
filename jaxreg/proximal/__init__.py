r"""Proximal operators: functions ``w -> w`` that minimize a penalty near ``w``.

.. math::

  \mathrm{prox}_{t R}(w) = \arg\min_v \; \tfrac{1}{2} \|v - w\|^2 + t \, R(v)

The step size :math:`t` is a number or an array that broadcasts to ``w``, zero or positive; negative
elements of an array count as 0. A step size of 0 returns ``w`` exactly.
:func:`jaxreg.transforms.proximal` takes such a step after each step of an optimizer.

For kernels that ``nn.scan`` or ``nnx.vmap`` stacked along a first axis of layers, use ``jax.vmap``
of the operator, or ``stacked`` of that transformation.

With one step size per weight, :math:`t_i = s / d_i`, an operator takes a step of size :math:`s` in
the metric of a diagonal matrix :math:`d`:

.. math::

  \arg\min_v \; \sum_i \tfrac{d_i}{2} (v_i - w_i)^2 + s \, R(v)

All operators except :func:`nuclear` accept such an array.
:func:`jaxreg.transforms.preconditioned_proximal` passes the diagonal of an adaptive optimizer.
"""

from jaxreg import _signatures
from jaxreg.proximal.elementwise import box, elastic_net, l0, l1, l2
from jaxreg.proximal.groups import group_lasso, sparse_group_lasso
from jaxreg.proximal.matrices import nuclear

__all__ = [
    "box",
    "elastic_net",
    "group_lasso",
    "l0",
    "l1",
    "l2",
    "nuclear",
    "sparse_group_lasso",
]

_signatures.show(__name__)
