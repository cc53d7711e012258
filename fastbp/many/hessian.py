"""The Hessian of a cost as products with vectors, made from `backprop`, and its largest positive eigenvalue."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fastbp.data.sample_weights import ignored_rows

if TYPE_CHECKING:
    from fastbp.network import MLP

Array = npt.NDArray[np.float64]

# Rows whose gradient is made at a time, which bounds the memory for their activations.
BLOCK_ROWS = 4096
# Step of a central difference over max(1, |w|): the square root of the machine epsilon. Its cube root would be better
# for smooth activations (errors of 1e-10 instead of 1e-8), but crosses kinks of relu: on the digits, power iteration
# then did not converge.
STEP = float(np.finfo(np.float64).eps ** 0.5)
# Share of the products after which an unshifted power iteration that has not converged is shifted.
UNSHIFTED = 0.25
# Eigenvalues this small, relative to the largest magnitude, are zero as far as differences can tell.
ZERO = 1e-6


class Hessian:
    """The Hessian H of the cost at the weights of a float64 network, as products with vectors over all parameters.

    The penalties belong to it: `decay`, and the network's l2. With `scale` s it is ``diag(s) H diag(s)``.
    Order: weights by layer, then biases by layer, each raveled.
    """

    def __init__(
        self, twin: MLP, X: npt.ArrayLike, y: npt.ArrayLike, *, decay: float = 0.0, scale: Array | None = None
    ) -> None:
        if twin.input_scale is not None:
            raise ValueError("the Hessian of networks with input_scale is not known here; use one without")
        self.twin, self.X, self.y, self.scale = twin, np.asarray(X), np.asarray(y), scale
        self.at = flat(twin.weights, twin.biases)
        n_weights = sum(array.size for array in twin.weights)
        ignored = ignored_rows(twin.loss, self.y)
        self.counted = np.ones(len(self.X), np.bool_) if ignored is None else ~ignored
        self.penalty = decay + 2.0 * twin.regularization.l2 * (np.arange(len(self.at)) < n_weights)
        self.step = STEP * max(1.0, float(np.linalg.norm(self.at)))
        self.products = 0

    def __len__(self) -> int:
        return len(self.at)

    def __matmul__(self, vector: Array) -> Array:
        """H u, by central differences of the gradient along u."""
        self.products += 1
        along = vector.ravel() if self.scale is None else vector.ravel() * self.scale
        size = float(np.linalg.norm(along))
        if size == 0.0:
            return np.zeros_like(along)
        move = along * (self.step / size)
        product = (self.gradient(self.at + move) - self.gradient(self.at - move)) * (size / (2.0 * self.step))
        product += self.penalty * along
        return product if self.scale is None else product * self.scale

    def gradient(self, parameters: Array) -> Array:
        """dJ/dw over all rows, block by block."""
        self.twin.set_weights(*_unflat(parameters, self.twin))
        total = np.zeros(len(parameters))
        for start in range(0, len(self.X), BLOCK_ROWS):
            rows = slice(start, start + BLOCK_ROWS)
            if not self.counted[rows].any():
                continue
            part = self.twin.backprop(self.X[rows], self.y[rows], training=False)
            total += flat(part.weights, part.biases) * (self.counted[rows].sum() / self.counted.sum())
        return total

    def loss(self) -> float:
        """J over all rows."""
        self.twin.set_weights(*_unflat(self.at, self.twin))
        return self.twin.evaluate(self.X, self.y)["loss"]


def flat(weights: list[npt.NDArray[Any]], biases: list[npt.NDArray[Any]]) -> Array:
    return np.concatenate([array.ravel() for array in [*weights, *biases]], dtype=np.float64)


def _unflat(vector: Array, net: MLP) -> tuple[list[Array], list[Array]]:
    shapes: list[tuple[int, ...]] = list(zip(net.sizes[:-1], net.sizes[1:], strict=True))
    shapes += [(n,) for n in net.sizes[1:]]
    ends = np.cumsum([math.prod(shape) for shape in shapes])
    arrays = [part.reshape(shape) for part, shape in zip(np.split(vector, ends[:-1]), shapes, strict=True)]
    return arrays[: len(net.sizes) - 1], arrays[len(net.sizes) - 1 :]


def _start(hessian: Hessian, seed: int) -> Array:
    """A random vector times H: it has no part in directions where the cost is flat, such as weights of dead inputs."""
    return hessian @ np.random.default_rng(seed).standard_normal(len(hessian))


def power(hessian: Hessian, tol: float, max_products: int, seed: int) -> tuple[float, bool]:
    """Largest positive eigenvalue by power iteration, and whether it has converged; 0 if no eigenvalue is positive.

    Without a shift it finds the eigenvalue of largest magnitude. If that is negative, or does not settle (two of one
    magnitude and different signs), it goes on with H + c, c the largest magnitude seen: then none is below 0.
    """
    vector = _start(hessian, seed)
    shift = largest = value = 0.0
    while True:
        norm = float(np.linalg.norm(vector))
        if norm == 0.0:
            return 0.0, True
        vector /= norm
        product = hessian @ vector
        value = float(vector @ product)
        largest = max(largest, float(np.linalg.norm(product)))
        converged = float(np.linalg.norm(product - value * vector)) <= tol * max(abs(value), ZERO * largest)
        if converged and (value > 0.0 or shift > 0.0):
            return value, True
        if hessian.products >= max_products:
            return value, False
        if shift == 0.0 and (converged or hessian.products >= UNSHIFTED * max_products):
            shift = largest
            if converged:  # at the negative one: start anew
                vector = _start(hessian, seed + 1)
                continue
        vector = product + shift * vector


def lanczos(hessian: Hessian, tol: float, max_products: int, seed: int) -> tuple[float, bool]:
    """The same by SciPy's implicitly restarted Lanczos (ARPACK), for the algebraically largest eigenvalue."""
    try:
        from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh
    except ImportError as error:
        raise ImportError('method="lanczos" needs SciPy: pip install "fastbp[stability]"') from error
    n = len(hessian)
    start = _start(hessian, seed)
    if not start.any():
        return 0.0, True
    operator = LinearOperator((n, n), matvec=hessian.__matmul__, dtype=np.float64)
    basis = min(n, 20)
    try:
        restarts = max(1, max_products // basis)
        found = eigsh(
            operator, 1, which="LA", v0=start, tol=tol, ncv=basis, maxiter=restarts, return_eigenvectors=False
        )
    except ArpackNoConvergence:
        return math.nan, False
    return float(found[0]), True
