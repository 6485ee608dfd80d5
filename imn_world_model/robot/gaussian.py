"""Gaussian processes as the robot needs them: known examples in, means and variances out."""
from dataclasses import dataclass, field
from typing import Any

import numpy as np

# Values that differ by less are one value.
CONSTANT = 1e-9


@dataclass(frozen=True)
class Kernel:
    """
    How alike two inputs are: linear * (1 + x.x') + smooth * exp(-|x - x'|^2 / (2 length^2)).

    :param linear: variance of what is linear in the inputs.
    :param smooth: variance of what bends.
    :param length: over which it bends.
    :param noise: variance of what the inputs do not tell.
    """

    linear: float
    smooth: float
    length: float
    noise: float

    def between(self, one: np.ndarray, other: np.ndarray) -> np.ndarray:
        """:return: (A, B) covariance of what is told at ``one`` (A, d) and ``other`` (B, d)."""
        square = ((one[:, None] - other[None]) ** 2).sum(-1)
        told: np.ndarray = (self.linear * (1 + one @ other.T)
                            + self.smooth * np.exp(-square / (2 * self.length ** 2)))
        return told


@dataclass(frozen=True)
class Process:
    """
    One number as a function of d inputs.

    :param kernel: of the process.
    :param inputs: (K, d) of the examples.
    :param values: (K,) of the examples, before they are centred.
    :param spread: factor on the variances, found on examples that were left out.
    """

    kernel: Kernel
    inputs: np.ndarray
    values: np.ndarray
    spread: float = 1.0
    _inverse: np.ndarray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        full = self.kernel.between(self.inputs, self.inputs)
        object.__setattr__(self, '_inverse', np.linalg.inv(
            full + self.kernel.noise * np.eye(len(full))))

    @property
    def scale(self) -> float:
        """Standard deviation of the examples' values, in which the kernel counts."""
        deviation = float(self.values.std())
        return deviation if deviation > CONSTANT else 1.0

    def predict(self, inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """
        Tell the values at other inputs.

        :param inputs: (B, d).
        :return: means (B,) and variances (B,), noise included.
        """
        alike = self.kernel.between(inputs, self.inputs)
        own = (self.kernel.linear * (1 + (inputs ** 2).sum(-1)) + self.kernel.smooth
               + self.kernel.noise)
        weight = alike @ self._inverse
        mean = self.values.mean() + weight @ (self.values - self.values.mean())
        variance = (own - (weight * alike).sum(-1)).clip(self.kernel.noise)
        return mean, variance * self.scale ** 2 * self.spread

    def left_out(self, group: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """
        What the process would say of each example without its whole group, in closed form.

        :param group: (K,) number of each example's group.
        :return: residuals (K,) and their variances (K,), without ``spread``.
        """
        told = self._inverse @ (self.values - self.values.mean())
        residual, variance = np.empty_like(told), np.empty_like(told)
        for number in np.unique(group):
            rows = np.flatnonzero(group == number)
            apart = np.linalg.inv(self._inverse[np.ix_(rows, rows)])
            residual[rows], variance[rows] = apart @ told[rows], np.diag(apart)
        return residual, variance * self.scale ** 2

    def plain(self) -> dict[str, Any]:
        """:return: what JSON can hold; inputs are kept elsewhere."""
        kernel = self.kernel
        return {'kernel': [kernel.linear, kernel.smooth, kernel.length, kernel.noise],
                'values': np.round(self.values, 6).tolist(), 'spread': self.spread}

    @staticmethod
    def of(plain: dict[str, Any], inputs: np.ndarray) -> 'Process':
        """:return: what :meth:`plain` told."""
        return Process(Kernel(*plain['kernel']), inputs, np.array(plain['values'], float),
                       float(plain['spread']))
