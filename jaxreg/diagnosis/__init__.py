r"""Diagnosis of a run from its loss curves: a verdict, its numbers, and changes to try.

:func:`diagnose` measures all differences of losses in units of the loss at the start,

.. math::

  \text{level} = \frac{L_T - f}{L_0 - f}, \qquad \text{gap} = \frac{V_T - L_T}{L_0 - f}, \qquad
  \text{rise} = \frac{V_T - \min_t V_t}{L_0 - f}

of the training loss :math:`L` and the validation loss :math:`V`, where :math:`f` is the loss of a
perfect prediction, usually 0. If a loss lies below :math:`f`, as likelihoods of densities do, the
fall of the training loss is the unit, and its level is unknown. Values at the end are medians
over the last fifth of the epochs, and the minimum is taken of a running median.

The signs are the usual ones: a large gap, or a validation loss that rises while the training loss
falls, is a sign of too little regularization, and a poor training loss of too much. A history of
the same model without regularization tells whether a poor training loss comes from the
regularization or from the model itself. ``jaxreg diagnose`` prints the same.

:func:`read` and :func:`read_runs` read the histories that Keras, Lightning, Hugging Face, Weights
and Biases, TensorBoard, pandas and others write.

References:
  Prechelt, `Early Stopping, But When? <https://doi.org/10.1007/3-540-49430-8_3>`_, 1998 (the rise
  in units of the minimum, above 5%); Goodfellow, Bengio and Courville, `Deep Learning
  <https://www.deeplearningbook.org>`_, 2016, sections 5.2, 7.8 and 11.4
"""

from jaxreg.diagnosis._curves import CURVE_NAMES
from jaxreg.diagnosis.changes import Change, Verdict
from jaxreg.diagnosis.reading import History, read, read_runs
from jaxreg.diagnosis.verdicts import (
    Diagnosis,
    Evidence,
    Thresholds,
    diagnose,
    diagnose_better,
)

__all__ = [
    "CURVE_NAMES",
    "Change",
    "Diagnosis",
    "Evidence",
    "History",
    "Thresholds",
    "Verdict",
    "diagnose",
    "diagnose_better",
    "read",
    "read_runs",
]
