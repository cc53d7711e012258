"""Stability lines: eigenvalues against NumPy's and PyTorch's Hessians, lines against descent 1 % below and above."""

from __future__ import annotations

import json
import math
import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from peers import needs, torch

from fastbp import MLP, SGD, Adam, AdamW, RMSprop, datasets, lr_stability
from fastbp.many import hessian as hessian_module
from fastbp.many.hessian import Hessian
from fastbp.many.stability import Stability, line_of

RNG = np.random.default_rng(6)
X = RNG.standard_normal((60, 3)) + 0.3
Y = RNG.standard_normal((60, 2))
LINEAR_HESSIAN = np.kron(np.c_[X, np.ones(60)].T @ np.c_[X, np.ones(60)], np.eye(2)) * 2 / Y.size
LARGEST = float(np.linalg.eigvalsh(LINEAR_HESSIAN)[-1])
METHODS = ("power", "lanczos")


def linear(**options: Any) -> MLP:
    return MLP([3, 2], loss="mse", seed=0, dtype="float64", **options)


def tanh(loss: str = "cross_entropy") -> tuple[MLP, Any]:
    net = MLP([3, 5, 2], activation="tanh", loss=loss, seed=1)
    return net, (X[:, 0] > 0).astype(np.int64) if loss == "cross_entropy" else Y


class Matrix(np.ndarray):
    """A symmetric matrix that counts its products, as `Hessian` does."""

    products = 0

    def __matmul__(self, vector: Any) -> Any:
        self.products += 1
        return np.asarray(self) @ vector


def with_eigenvalues(*values: float) -> Any:
    q = np.linalg.qr(RNG.standard_normal((len(values), len(values))))[0]
    return ((q * values) @ q.T).view(Matrix)


# --- the Hessian


@needs("torch")
@pytest.mark.parametrize("loss", ["cross_entropy", "mse"])
def test_products_are_those_of_a_double_backward_in_pytorch(loss: str) -> None:
    net, y = tanh(loss)
    twin = net.astype("float64")
    hessian = Hessian(twin, X, y)
    inputs, targets = torch.tensor(X), torch.tensor(y)

    def cost(flat: Any) -> Any:
        w0, w1, b0, b1 = flat.split([15, 10, 5, 2])
        z = torch.tanh(inputs @ w0.reshape(3, 5) + b0) @ w1.reshape(5, 2) + b1
        if loss == "mse":
            return torch.nn.functional.mse_loss(z, targets)
        return torch.nn.functional.cross_entropy(z, targets)

    exact = torch.autograd.functional.hessian(cost, torch.tensor(hessian.at)).numpy()
    found = np.column_stack([hessian @ column for column in np.eye(len(hessian))])
    np.testing.assert_allclose(found, exact, atol=2e-7)
    assert hessian.products == len(hessian) == 32
    assert hessian.loss() == pytest.approx(float(cost(torch.tensor(hessian.at))), rel=1e-12)
    largest = float(np.linalg.eigvalsh(exact)[-1])
    for method in METHODS:
        result = lr_stability(net, X, y, optimizer="sgd", method=method, tol=1e-6)
        assert result.eigenvalues[0] == pytest.approx(largest, rel=1e-5)
        assert result.converged == [True]


@pytest.mark.parametrize("method", METHODS)
def test_linear_regression(method: str) -> None:
    result = lr_stability(linear(), X, Y, optimizer="sgd", method=method)
    assert result.eigenvalues[0] == pytest.approx(LARGEST, rel=1e-5)
    assert result.lines[0] == pytest.approx(2 / LARGEST, rel=1e-5)
    assert result.losses[0] == pytest.approx(linear().evaluate(X, Y)["loss"])


def test_rows_in_blocks_and_float32_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hessian_module, "BLOCK_ROWS", 7)
    net = MLP([3, 2], loss="mse", seed=0)
    assert lr_stability(net, X, Y, optimizer="sgd").eigenvalues[0] == pytest.approx(LARGEST, rel=1e-5)


def test_scaled_inputs_and_targets_and_weight_decay() -> None:
    net = linear()
    net.standardize(X, Y)
    scaled = np.c_[(X - X.mean(axis=0)) / X.std(axis=0), np.ones(60)]
    largest = np.linalg.eigvalsh(scaled.T @ scaled * 2 / Y.size)[-1]
    found = lr_stability(net, X, Y, optimizer=SGD(weight_decay=0.5), tol=1e-6)
    assert found.eigenvalues[0] == pytest.approx(largest + 0.5)


def test_kinks_of_relu_are_stepped_around() -> None:
    """With a step of 6e-6 the products jump from call to call, and power iteration ends at 1,000."""
    features, labels = datasets.load_digits()
    net = MLP([64, 64, 10], seed=0)
    power, lanczos = (lr_stability(net, features, labels, optimizer="sgd", method=method) for method in METHODS)
    assert power.products[0] < 50
    assert power.eigenvalues[0] == pytest.approx(lanczos.eigenvalues[0], rel=1e-3)


# --- eigenvalues


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "values",
    [
        (5.0, 3.0, 1.0, -0.5),
        (-10.0, 3.0, 1.0, 0.5),  # the largest in magnitude is negative
        (-10.0, -9.99, 1.0, 2.0),
        (3.0, -3.0, 1.0, 0.0),  # neither wins without a shift
        (4.0, 4.0, 4.0, -1.0),
        (7.0, 0.0, 0.0, 0.0),
        (-1.0, -2.0, -3.0, -4.0),  # none is positive
    ],
)
def test_the_largest_positive_eigenvalue(method: str, values: tuple[float, ...]) -> None:
    solve = hessian_module.power if method == "power" else hessian_module.lanczos
    found, converged = solve(with_eigenvalues(*values), 1e-6, 100_000, 0)
    assert converged
    assert found == pytest.approx(max(values), rel=1e-4, abs=1e-9)


def test_a_flat_cost_has_no_line() -> None:
    net = MLP([3, 4, 2], loss="mse", init="zeros", seed=0)
    net.set_weights(net.weights, [np.full(4, -1.0), np.zeros(2)])
    dead = np.zeros((5, 2))
    for method in METHODS:
        solve = hessian_module.power if method == "power" else hessian_module.lanczos
        assert solve(np.zeros((4, 4)).view(Matrix), 1e-3, 50, 0) == (0.0, True)
    # Every hidden unit is dead: only the biases of the outputs matter.
    found = lr_stability(net, X[:5] * 1e-3, dead, optimizer="sgd")
    assert found.eigenvalues[0] == pytest.approx(2 / 2, rel=1e-6)


def test_an_eigenvalue_that_does_not_settle_is_told() -> None:
    net, y = tanh()
    with pytest.warns(RuntimeWarning, match="did not converge to tol=1e-12 in 5 products"):
        result = lr_stability(net, X, y, tol=1e-12, max_products=5)
    assert result.converged == [False]
    assert "rough" in str(result)
    found, converged = hessian_module.lanczos(with_eigenvalues(*np.linspace(1, 1.001, 60)), 1e-15, 20, 0)
    assert not converged
    assert math.isnan(found)


# --- lines


@pytest.mark.parametrize(
    ("optimizer", "line"),
    [
        (SGD(), 2 / LARGEST),
        (SGD(momentum=0.9), 3.8 / LARGEST),
        (SGD(momentum=0.6), 3.2 / LARGEST),
        (SGD(momentum=0.9, nesterov=True), 3.8 / 2.8 / LARGEST),
        (SGD(momentum=0.5, nesterov=True), 3.0 / 2.0 / LARGEST),
        (SGD(weight_decay=0.3), 2 / (LARGEST + 0.3)),
    ],
    ids=repr,
)
def test_descent_converges_below_and_diverges_above(optimizer: Any, line: float) -> None:
    found = lr_stability(linear(), X, Y, optimizer=optimizer).lines[0]
    assert found == pytest.approx(line, rel=1e-4)
    options = {name: value for name, value in vars(optimizer).items() if name != "lr"}
    ends = {}
    for factor in (0.99, 1.01):
        net = linear()
        ends[factor] = net.fit(X, Y, epochs=1500, batch_size=60, optimizer=SGD(lr=factor * found, **options)).loss
    assert ends[0.99][-1] == pytest.approx(ends[0.99][-2], rel=1e-9)  # it stands still
    assert ends[0.99][-1] <= ends[0.99][0]
    assert ends[1.01][-1] > 1e6 * ends[1.01][0]


def frozen_adam(kind: Any, beta1: float, roots: Any) -> tuple[MLP, Any]:
    """A linear network whose second moments are sqrt(v) = roots and hardly change: 1e9 steps are behind it."""
    beta2, steps = 1.0 - 1e-15, 10**9
    net = linear()
    optimizer = kind(betas=(beta1, beta2), eps=0.25)
    net.fit(X, Y, epochs=1, batch_size=60, optimizer=kind(lr=0.0, betas=(beta1, beta2), eps=0.25))
    state = net.optimizer_state()
    v = roots**2 * (1.0 - beta2**steps)
    zero = {"weights": [np.zeros((3, 2))], "biases": [np.zeros(2)]}
    state["moments"] = [zero, {"weights": [v[:6].reshape(3, 2)], "biases": [v[6:]]}]
    net.load_optimizer_state(state | {"steps": steps})
    return net, optimizer


@pytest.mark.parametrize("beta1", [0.9, 0.5])
@pytest.mark.parametrize("kind", [Adam, lambda **options: AdamW(weight_decay=0.0, **options)], ids=["adam", "adamw"])
def test_adam_converges_below_and_diverges_above(kind: Any, beta1: float) -> None:
    roots = RNG.uniform(0.5, 2.0, 8)
    net, optimizer = frozen_adam(kind, beta1, roots)
    scale = 1 / np.sqrt(roots + 0.25)
    largest = np.linalg.eigvalsh(LINEAR_HESSIAN * np.outer(scale, scale))[-1]
    for method in METHODS:
        result = lr_stability(net, X, Y, optimizer=optimizer, method=method)
        assert result.preconditioned
        assert result.eigenvalues[0] == pytest.approx(largest, rel=1e-4)
        assert result.lines[0] == pytest.approx(2 * (1 + beta1) / (1 - beta1) / largest, rel=1e-4)
    ends = {}
    for factor in (0.99, 1.01):
        stepping = kind(lr=factor * result.lines[0], betas=optimizer.betas, eps=optimizer.eps)
        ends[factor] = net.copy().fit(X, Y, epochs=300, batch_size=60, optimizer=stepping).loss
    assert ends[0.99][-1] < ends[0.99][0]
    assert max(ends[0.99][-20:]) < 1.01 * min(ends[0.99][-20:])
    assert max(ends[1.01]) > 1e4 * ends[1.01][0]  # in the end its moment has grown with the gradients, and tames it


@pytest.mark.parametrize("optimizer", [Adam(weight_decay=0.2), RMSprop(weight_decay=0.2), AdamW()], ids=repr)
def test_before_the_first_step_v_is_that_of_an_epoch_that_stands_still(optimizer: Any) -> None:
    net = linear()
    eps = optimizer.betas_and_eps[2]
    decay = 0.0 if optimizer.name == "adamw" else optimizer.weight_decay
    gradient = net.backprop(X, Y)
    flat = np.concatenate([gradient.weights[0].ravel(), gradient.biases[0]])
    flat += decay * np.concatenate([net.weights[0].ravel(), net.biases[0]])
    scale = 1 / np.sqrt(np.abs(flat) + eps)  # one batch, bias-corrected: v is the square of its gradient
    largest = np.linalg.eigvalsh((LINEAR_HESSIAN + decay * np.eye(8)) * np.outer(scale, scale))[-1]
    result = lr_stability(net, X, Y, optimizer=optimizer, batch_size=60)
    assert result.eigenvalues[0] == pytest.approx(largest, rel=1e-4)
    batches = lr_stability(net, X, Y, optimizer=optimizer, batch_size=10)
    assert batches.eigenvalues[0] < result.eigenvalues[0]  # squares of batch gradients are larger


def test_rmsprop_divides_by_its_own_moment() -> None:
    net = linear()
    optimizer = RMSprop(lr=1e-3)
    net.fit(X, Y, epochs=2, optimizer=optimizer)
    moment = net.optimizer_state()["moments"][0]
    root = np.sqrt(np.concatenate([moment["weights"][0].ravel(), moment["biases"][0]])) + optimizer.eps
    largest = np.linalg.eigvalsh(LINEAR_HESSIAN / np.sqrt(np.outer(root, root)))[-1]
    assert lr_stability(net, X, Y, optimizer=optimizer).lines[0] == pytest.approx(2 / largest, rel=1e-4)


def test_38_over_l_of_cohen_et_al() -> None:
    assert line_of(Adam())[0] == pytest.approx(38.0)


# --- by epoch, and around it


def test_by_epoch() -> None:
    net, y = tanh()
    optimizer = SGD(lr=0.5, momentum=0.9)
    found = lr_stability(net, X, y, optimizer=optimizer, epochs=3, batch_size=16)
    assert found.epochs.tolist() == [0, 1, 2, 3]
    twin = net.copy()
    for epoch in range(4):
        alone = lr_stability(twin, X, y, optimizer=optimizer)
        assert (alone.eigenvalues[0], alone.losses[0]) == (found.eigenvalues[epoch], found.losses[epoch])
        twin.fit(X, y, epochs=1, batch_size=16, optimizer=optimizer)
    assert len(set(found.eigenvalues)) == 4


def test_a_training_that_diverges_ends_the_list() -> None:
    found = lr_stability(linear(), X, Y, optimizer=SGD(lr=1e200), epochs=3)
    assert found.diverged
    assert len(found.lines) == 1
    assert "diverged in epoch 1" in str(found)


def test_the_network_and_the_random_state_stay_as_they_are() -> None:
    net, y = tanh()
    net.fit(X, y, epochs=2, optimizer="adam")
    before, state = pickle.dumps(net), np.random.get_state()[1].tolist()  # noqa: NPY002
    for method in METHODS:
        lr_stability(net, X, y, epochs=1, method=method)
    assert pickle.dumps(net) == before
    assert np.random.get_state()[1].tolist() == state  # noqa: NPY002


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"epochs": -1}, ValueError, "epochs"),
        ({"epochs": 1.0}, TypeError, "epochs"),
        ({"epochs": False}, TypeError, "epochs"),
        ({"batch_size": 0}, ValueError, "batch_size"),
        ({"method": "lanzos"}, ValueError, "did you mean 'lanczos'"),
        ({"tol": 0.0}, ValueError, "tol"),
        ({"max_products": 0}, ValueError, "max_products"),
        ({"optimizer": "sgdd"}, ValueError, "did you mean 'sgd'"),
        ({"seed": -1}, ValueError, "seed"),
        ({"threads": 0}, ValueError, "threads"),
        ({"X": np.full((60, 3), np.nan)}, ValueError, "nan"),
        ({"y": Y[:5]}, ValueError, "5 rows"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        lr_stability(linear(), **{"X": X, "y": Y, **arguments})


def test_lanczos_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy.sparse.linalg", None)
    with pytest.raises(ImportError, match=r"fastbp\[stability\]"):
        lr_stability(linear(), X, Y, method="lanczos")


@pytest.fixture(scope="module")
def found() -> Stability:
    return lr_stability(linear(), X, Y, epochs=2)


def test_files_and_text(found: Stability, tmp_path: Path) -> None:
    found.to_csv(tmp_path / "s.csv")
    lines = (tmp_path / "s.csv").read_text().splitlines()
    assert lines[0] == "epoch,loss,eigenvalue,line,products,converged"
    assert [float(line.split(",")[3]) for line in lines[1:]] == found.lines.tolist()
    found.to_json(tmp_path / "s.json")
    read = json.loads((tmp_path / "s.json").read_text(), parse_constant=pytest.fail)
    assert read["eigenvalue"] == found.eigenvalues.tolist()
    assert "not a recommendation" in read["caveat"]
    for part in ("2 (1 + b1) / (1 - b1) / L_P", "not a recommendation", f"{found.lines[2]:.3g}"):
        assert part in str(found)


def test_picture(found: Stability, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figure = found.plot(tmp_path / "s.png")
    assert (tmp_path / "s.png").read_bytes().startswith(b"\x89PNG")
    assert figure.axes[0].lines[0].get_ydata().tolist() == found.lines.tolist()
    assert "not a recommendation" in figure.axes[0].get_title()
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"fastbp\[plot\]"):
        found.plot()
