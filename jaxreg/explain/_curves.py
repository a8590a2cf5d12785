"""Shares of the weights that one update removes, over many orders of magnitude of the weights."""

from typing import NamedTuple

import numpy as np

# Tolerance of shares, which float64 computes to many more digits.
EXACT = 1e-6
# Smaller moves, at weights near 1, are rounding errors of double precision.
NOTHING = 1e-13
_ROUNDING = 1e-15
_OF_DRIFT = 1e-12
# Scales at which updates are kept.
KEPT = (1.0, 1e6, 1e7)


class Fit(NamedTuple):
    """Parameters of the share ``decay + threshold / scale``."""

    decay: float  # fraction of each weight
    threshold: float  # amount that every weight moves toward zero


class Curve(NamedTuple):
    """Updates of one leaf at weights of many scales, of which few are kept: they may be large."""

    weights: np.ndarray  # at scale 1
    scales: tuple[float, ...]
    shares: np.ndarray  # of the weights that an update removes, for every scale
    evens: tuple[bool, ...]  # whether it removes the same fraction of every weight
    kept: dict[float, np.ndarray]  # updates at some of the scales
    moves: bool  # whether any update moves a weight

    @property
    def last_free(self) -> int:
        """Index of the last scale before the share rises, as under a constraint."""
        shares = self.shares
        rising = np.flatnonzero(np.diff(shares) > 1e-9 + EXACT * np.abs(shares[:-1]))
        return int(rising[0]) if rising.size else len(shares) - 1

    @property
    def is_bounded(self) -> bool:
        """A constraint on large weights."""
        return self.last_free < len(self.scales) - 1

    @property
    def wanders(self) -> bool:
        """A projection that is not final: weights ten times as large end elsewhere."""
        near = self.landing(1e6)
        far = self.landing(1e7)
        return float(np.abs(far - near).max()) > 1e-3 * float(np.abs(near).max())

    def at(self, scale: float) -> int:
        """Returns the index of a scale."""
        return int(np.argmin(np.abs(np.log(np.array(self.scales) / scale))))

    def move(self, scale: float) -> np.ndarray:
        """Returns the update at a scale that is kept."""
        return self.kept[scale]

    def landing(self, scale: float) -> np.ndarray:
        """Returns the weights after the update at a scale."""
        return scale * self.weights + self.move(scale)

    def is_even(self, at: int) -> bool:
        """Returns whether the update at an index removes the same fraction of every weight."""
        return self.evens[min(at, self.at(1e2))]

    def fit(self) -> Fit | None:
        """Fits a decay and a threshold where three neighboring scales agree; None if none do.

        Scales near 1 are tried first: at large ones a threshold is lost in rounding, and clipping
        may act there; at small ones weights are zero already, or smaller than a gradient step.
        """
        shares = self.shares
        starts = range(max(self.last_free - 1, 0))
        for first in sorted(starts, key=lambda i: (abs(i + 1 - self.at(1.0)), i)):
            found = self._fit_at(shares, first)
            if found is not None:
                return found
        return None

    def _fit_at(self, shares: np.ndarray, first: int) -> Fit | None:
        near, middle, far = shares[first : first + 3]
        scales = np.array(self.scales[first : first + 3])
        slope = (near - far) / (1 / scales[0] - 1 / scales[2])
        decay = far - slope / scales[2]
        largest = max(abs(near), abs(far))
        if abs(middle - decay - slope / scales[1]) > EXACT * largest + NOTHING:
            return None
        if abs(near - 1) < EXACT and abs(far - 1) < EXACT:
            return None  # Everything becomes zero, which tells no strength.
        w = self.weights
        threshold = slope * float(np.vdot(w, w).real) / float(np.sum(np.abs(w)))
        is_sloped = slope / scales[0] > EXACT * largest and threshold > NOTHING
        has_decay = abs(decay) > EXACT * largest and abs(decay) > NOTHING
        return Fit(float(decay) if has_decay else 0.0, float(threshold) if is_sloped else 0.0)


class Sketch:
    """Collects a curve, from the smallest scale to the largest."""

    def __init__(self, weights: np.ndarray, drift: np.ndarray):
        self.weights = weights
        self.drift = drift
        self.scales: list[float] = []
        self.shares: list[float] = []
        self.evens: list[bool] = []
        self.kept: dict[float, np.ndarray] = {}
        self.moves = False

    def add(self, scale: float, move: np.ndarray) -> None:
        """Adds an update, without what does not depend on the weights, and without rounding."""
        # A drift, such as noise, is the update at zero, and so is almost the one near zero.
        if not self.scales and not np.allclose(move, self.drift, rtol=EXACT, atol=0.0):
            self.drift = np.zeros_like(self.drift)
        sizes = scale * np.abs(self.weights)
        least = np.maximum(_ROUNDING * sizes, _OF_DRIFT * np.max(np.abs(self.drift), initial=0.0))
        moved = move - self.drift
        moved = np.where(np.abs(moved) > least, moved, 0.0)
        self.scales.append(scale)
        self.shares.append(share(moved, self.weights, scale))
        self.evens.append(_is_even(moved / (scale * self.weights)))
        self.moves = self.moves or bool(np.any(moved))
        if scale in KEPT:
            self.kept[scale] = moved

    def curve(self) -> Curve:
        """Returns the curve."""
        scales = tuple(self.scales)
        evens = tuple(self.evens)
        return Curve(self.weights, scales, np.array(self.shares), evens, self.kept, self.moves)


def _is_even(fractions: np.ndarray) -> bool:
    spread = float(np.max(np.abs(fractions - np.mean(fractions))))
    return spread <= max(1e-3 * float(np.max(np.abs(fractions))), 1e-12)


def share(move: np.ndarray, weights: np.ndarray, scale: float) -> float:
    """Returns the fraction of the weights that the update ``move`` removes."""
    size = scale * float(np.vdot(weights, weights).real)
    return -float(np.vdot(weights, move).real) / size if size else 0.0
