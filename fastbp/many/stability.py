"""Where gradient descent becomes unstable: the Hessian's largest eigenvalue, and the learning rate to go with it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fastbp import optimizers, validation
from fastbp.arrays import numeric
from fastbp.data import columns, sample_weights
from fastbp.errors import DivergenceError
from fastbp.io.figures import new_figure
from fastbp.io.overview import Overview
from fastbp.io.tabular import Tabular
from fastbp.kernels.notice import tell
from fastbp.many.hessian import Hessian, flat, lanczos, power
from fastbp.network import MLP
from fastbp.numerics import own, quiet_results
from fastbp.training.settings import check_threads

Array = npt.NDArray[np.float64]

METHODS = ("power", "lanczos")
SHOWN = 8  # rows of an overview
CAVEAT = (
    "a diagnostic, not a recommendation: mini-batches may diverge below the line, early training may survive above it"
)


@own
def lr_stability(
    net: MLP,
    X: npt.ArrayLike,
    y: npt.ArrayLike,
    *,
    optimizer: str | optimizers.Optimizer = "adam",
    epochs: int = 0,
    batch_size: int = 32,
    method: str = "power",
    tol: float = 1e-3,
    max_products: int = 1000,
    seed: int = 0,
    threads: int | None = None,
) -> Stability:
    """The learning rate above which full-batch descent is unstable near the present weights, by the Hessian.

    Near weights w the cost is nearly quadratic. Along an eigenvector of its Hessian H with a positive eigenvalue L,
    descent shrinks an error only at a rate below the *stability line* of the optimiser; L is the largest positive one:

    - SGD: ``2 / L``; with heavy-ball momentum b: ``2 (1 + b) / L``; with Nesterov's (PyTorch's form):
      ``2 (1 + b) / ((1 + 2 b) L)``;
    - Adam and AdamW: ``2 (1 + b1) / ((1 - b1) L_P)``, which is ``38 / L_P`` for b1 = 0.9; RMSprop: ``2 / L_P``. L_P is
      the largest eigenvalue of ``P^-1/2 H P^-1/2`` with the preconditioner ``P = sqrt(v) + eps``, held still, where v
      is the optimiser's (bias-corrected) mean of squared gradients.

    A weight decay that is added to the gradient is added to H, too; AdamW's decay and clipping are left out.

    This is a diagnostic, never a recommendation: mini-batches may diverge below the line, early training may survive
    above it, where the curvature still falls, and full-batch training tends to raise L until its line meets the rate
    (Cohen et al. 2021).

    Parameters
    ----------
    net : MLP
        Stays as it is: float64 twins are measured, copies trained.
    X, y : array-like
        All of it is one batch of the Hessian.
    optimizer : str or Optimizer
        Its rule, and for the epochs its learning rate.
    epochs : int
        Train a copy so many epochs, and measure after each, too.
    batch_size : int
        Of these epochs, and of the squared gradients of Adam and RMSprop at the start: where the network holds none of
        this optimiser, v is what one epoch at a learning rate of 0 makes of it (bias-corrected).
    method : {"power", "lanczos"}
        Power iteration, shifted where the eigenvalue of largest magnitude is negative; or SciPy's Lanczos (extra
        `stability`), which takes fewer products. Either multiplies by H through central differences of `backprop`:
        ``H u = (g(w + h u) - g(w - h u)) / 2h`` for ``|u| = 1``, with ``h = 1.5e-8 max(1, |w|)``.
    tol : float
        Of the eigenvalue, relative.
    max_products : int
        Products with H, two gradients each, before an eigenvalue is given up; a RuntimeWarning says so.
    seed : int
        Of the start vector.
    threads : int, optional
        Of the training.

    Returns
    -------
    Stability
        Eigenvalue and line at the start and after each epoch.

    Raises
    ------
    ValueError, TypeError
        If an argument is not as described.
    ImportError
        `method` is "lanczos" and SciPy is not installed.

    References
    ----------
    Cohen, Kaur, Li, Kolter and Talwalkar, "Gradient descent on neural networks typically occurs at the edge of
    stability", ICLR 2021 (momentum: appendix B). Cohen, Ghorbani, Krishnan et al., "Adaptive gradient methods at the
    edge of stability", arXiv:2207.14484, 2022. Golub and Van Loan, "Matrix computations", 2013, chapters 8 and 10.
    """
    if not isinstance(net, MLP):
        raise TypeError(f"net must be a fastbp.MLP, got {type(net).__name__}")
    optimizer = optimizers.get(optimizer)
    factor, formula = line_of(optimizer)
    epochs = validation.check_non_negative_int("epochs", epochs)
    batch_size = validation.check_positive_int("batch_size", batch_size)
    method = validation.check_choice("method", method, METHODS)
    tol = validation.check_positive_finite("tol", tol)
    max_products = validation.check_positive_int("max_products", max_products)
    start, threads = validation.check_seed(seed), check_threads(threads)
    if start is None:
        raise TypeError("seed must be an integer, got None")
    X = columns.by_name(X, net.feature_names)
    X, y = numeric(X, "X"), numeric(y, "y", labels=True)  # once, for a data frame is converted column by column
    sample_weights.check_total(net.session.check_batch(X, y, None, scan=True).weights)
    solve = lanczos if method == "lanczos" else power
    trained = net.copy()
    points: list[_Point] = []
    diverged = False
    for epoch in range(epochs + 1):
        if epoch:
            try:
                trained.fit(X, y, epochs=1, batch_size=batch_size, optimizer=optimizer, threads=threads)
            except DivergenceError:
                diverged = True
                break
        points.append(_measure(trained, X, y, optimizer, batch_size, solve, tol, max_products, start))
    if not all(point.converged for point in points):
        tell(
            f"an eigenvalue did not converge to tol={tol:g} in {max_products} products: raise max_products or tol, or "
            "use method='lanczos'", RuntimeWarning, stacklevel=3,
        )  # fmt: skip
    eigenvalues = np.array([point.eigenvalue for point in points])
    lines = factor / eigenvalues
    return Stability(
        np.arange(len(points)), eigenvalues, lines, np.array([point.loss for point in points]),
        [point.converged for point in points], [point.products for point in points], formula,
        preconditioned=formula.endswith("L_P"), optimizer=optimizer, method=method, diverged=diverged,
    )  # fmt: skip


@quiet_results
@dataclass(frozen=True, eq=False, repr=False)
class Stability(Tabular):
    """What `lr_stability` has found, one entry for the start and for each epoch. ``print(result)`` shows a table.

    Attributes
    ----------
    epochs : array of int
        Epochs trained before.
    eigenvalues : array
        Largest positive eigenvalue of the Hessian (of the preconditioned one, if `preconditioned`); 0 if none is. One
        that has not converged is too low, or NaN.
    lines : array
        The optimiser's stability line, a learning rate; infinite where nothing curves upward.
    losses : array
        J over all rows.
    converged : list of bool
        Whether each eigenvalue reached the tolerance.
    products : list of int
        Products with the Hessian that each took.
    formula : str
        Of the line.
    preconditioned : bool
        The optimiser scales its gradients, as Adam does.
    optimizer : Optimizer
        Whose line it is.
    method : str
        "power" or "lanczos".
    diverged : bool
        The training diverged before its last epoch, so that there are fewer entries.
    caveat : str
        What the line does not say.
    """

    epochs: npt.NDArray[np.int64]
    eigenvalues: Array
    lines: Array
    losses: Array
    converged: list[bool]
    products: list[int]
    formula: str
    preconditioned: bool
    optimizer: optimizers.Optimizer
    method: str
    diverged: bool
    caveat: str = CAVEAT

    def columns(self) -> dict[str, npt.NDArray[Any]]:
        """Columns with one entry an epoch, by name."""
        return {
            "epoch": self.epochs, "loss": self.losses, "eigenvalue": self.eigenvalues, "line": self.lines,
            "products": np.array(self.products), "converged": np.array(self.converged),
        }  # fmt: skip

    def __str__(self) -> str:
        return self.overview(len(self.epochs)).text()

    def __repr__(self) -> str:
        lines = " -> ".join(f"{line:.3g}" for line in dict.fromkeys(self.lines[[0, -1]].tolist()))
        return f"<fastbp.Stability of {self.optimizer.name}: unstable from lr {lines} on>"

    def overview(self, most: int = SHOWN) -> Overview:
        """The lines of the start and of the last epochs, so many at most."""
        n = len(self.epochs)
        shown = range(n) if n <= most else [0, *range(n - most + 1, n)]
        rows = [
            (
                str(self.epochs[k]), f"{self.losses[k]:.4g}", f"{self.eigenvalues[k]:.4g}", f"{self.lines[k]:.3g}",
                "" if self.converged[k] else "rough",
            )
            for k in shown
        ]  # fmt: skip
        diverged = [f"the training diverged in epoch {n}"] if self.diverged else []
        head = ("epoch", "loss", "L_P" if self.preconditioned else "L", "line", "")
        title = f"stability line of {type(self.optimizer).__name__}: lr = {self.formula}"
        return Overview(title, head, rows, [*diverged, self.caveat])

    def document(self) -> dict[str, Any]:
        """The columns, the formula and the caveat."""
        return {
            "optimizer": self.optimizer.name, "optimizer_options": vars(self.optimizer), "method": self.method,
            "formula": self.formula, "diverged": self.diverged, "caveat": self.caveat, **self.columns(),
        }  # fmt: skip

    def draw(self) -> Any:
        """The line, and the optimiser's rate beside it, by epoch."""
        figure = new_figure(7, 4.5)
        from matplotlib.ticker import MaxNLocator

        axes = figure.subplots()
        axes.plot(self.epochs, self.lines, "o-", label=f"stability line, {self.formula}")
        if len(self.epochs) > 1:
            axes.axhline(self.optimizer.lr, color="0.5", linestyle="--", label="the rate of this training")
        axes.set(xlabel="epoch", ylabel="learning rate", yscale="log")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_title(self.caveat, fontsize="x-small")
        axes.legend(fontsize="small")
        return figure


def stability_line(stability: Stability | float | None) -> float | None:
    """The rate to draw; None if there is none, or if nothing curves upward: then every rate is stable."""
    if stability is None:
        return None
    if isinstance(stability, Stability):
        line = float(stability.lines[0])
        return line if np.isfinite(line) and line > 0 else None
    return validation.check_positive_finite("stability", stability)


def line_of(optimizer: optimizers.Optimizer) -> tuple[float, str]:
    """What the line is times the eigenvalue, and its formula, which ends in L_P if that is the preconditioned one."""
    b, damped = optimizer.betas_and_eps[0], 1.0 - float(getattr(optimizer, "dampening", 0.0))
    known = {
        "sgd": (2.0, "2 / L"),
        "momentum": (2.0 * (1.0 + b), "2 (1 + b) / L"),
        "dampened": (2.0 * (1.0 + b) / max(damped, 1e-300), "2 (1 + b) / (1 - dampening) / L"),
        "nesterov": (2.0 * (1.0 + b) / (1.0 + 2.0 * b), "2 (1 + b) / (1 + 2 b) / L"),
        "adam": (2.0 * (1.0 + b) / max(1.0 - b, 1e-300), "2 (1 + b1) / (1 - b1) / L_P"),
        "adamw": (2.0 * (1.0 + b) / max(1.0 - b, 1e-300), "2 (1 + b1) / (1 - b1) / L_P"),
        "rmsprop": (2.0, "2 / L_P"),
    }
    if optimizer.rule not in known:
        raise ValueError(
            f"no stability line is known for {optimizer!r}; it is for SGD (momentum, dampening, Nesterov), Adam and "
            "AdamW without AMSGrad, and RMSprop without momentum or centring"
        )
    return known[optimizer.rule]


@dataclass(frozen=True)
class _Point:
    """The largest positive eigenvalue at some weights."""

    eigenvalue: float
    converged: bool
    products: int
    loss: float


_Solver = Callable[[Hessian, float, int, int], tuple[float, bool]]


def _measure(
    net: MLP, X: npt.ArrayLike, y: npt.ArrayLike, optimizer: optimizers.Optimizer, batch_size: int, solve: _Solver,
    tol: float, max_products: int, seed: int,
) -> _Point:  # fmt: skip
    scale = None
    if line_of(optimizer)[1].endswith("L_P"):
        scale = 1.0 / np.sqrt(_preconditioner(net, X, y, optimizer, batch_size))
    decay = 0.0 if optimizer.name == "adamw" else optimizer.weight_decay
    hessian = Hessian(net.astype("float64"), X, y, decay=decay, scale=scale)
    value, converged = solve(hessian, tol, max_products, seed)
    known = converged or value > 0.0
    return _Point(max(value, 0.0) if known else float("nan"), converged, hessian.products, hessian.loss())


def _preconditioner(
    net: MLP, X: npt.ArrayLike, y: npt.ArrayLike, optimizer: optimizers.Optimizer, batch_size: int
) -> Array:
    """sqrt(v) + eps: v of the network's own optimiser, or of one epoch during which the weights stand still."""
    _, beta2, eps = optimizer.betas_and_eps
    fits = net.session.engine.state_layout == (optimizer.name, optimizer.n_moments) and net.session.engine.steps > 0
    if not fits:
        net = net.astype("float64")
        net.fit(X, y, epochs=1, batch_size=batch_size, optimizer=dataclasses.replace(optimizer, lr=0.0))
    state = net.optimizer_state()
    last = state["moments"][-1]
    v = flat(last["weights"], last["biases"])
    if (
        optimizer.name != "rmsprop" or not fits
    ):  # RMSprop corrects no bias; but v is to stand for the rate it settles at
        v /= 1.0 - beta2 ** state["steps"]
    return np.asarray(np.sqrt(v) + eps)
