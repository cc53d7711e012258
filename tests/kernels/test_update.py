"""Gradient descent: every rule against PyTorch, the routes of an update against each other, and the life of moments."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import naive
import numpy as np
import pytest
from oracles import ALL_OPTIMIZERS, IN_TORCH, ONE_A_RULE, make_torch, options
from peers import needs, torch

import fastbp
from fastbp import (
    SGD,
    Adadelta,
    Adagrad,
    Adam,
    Adamax,
    AdamW,
    Gradient,
    NAdam,
    RAdam,
    RMSprop,
    Rprop,
    schedules,
)
from fastbp.engine import tuning
from fastbp.engine.memory import address, allocate
from fastbp.kernels import build, update
from fastbp.kernels.optimizers import N_RATES, RULES, initial_scalars
from fastbp.kernels.records import JOB
from fastbp.reference import NumpyMLP

SHAPES = [
    ([3, 2], 1), ([20, 40, 4], 1), ([64, 64, 10], 32), ([7, 33, 17, 5], 3), ([130, 70, 257, 4], 19),
    ([4, 32, 16, 4], 1511),  # by shares of the batch
]  # fmt: skip


def make(sizes: list[int], rows: int, dtype: str = "float64") -> tuple[fastbp.MLP, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    net = fastbp.MLP(sizes, loss="mse", activation="tanh", dtype=dtype, seed=0)
    return net, rng.standard_normal((rows, sizes[0])), rng.standard_normal((rows, sizes[-1]))


def everything(net: fastbp.MLP) -> list[np.ndarray]:
    """Parameters, their transposed copy and moments, padding included."""
    net.session.engine.mirror()  # made when it is first needed, kept fresh by updates
    unused = net.session.layout.layers[
        0
    ].transposed_size  # training sends no delta below layer 0, and lets its copy go stale
    return [net.session.engine.parameters, net.session.engine.transposed[unused:], *net.session.engine.moments]


def assert_same_bits(net: fastbp.MLP, other: fastbp.MLP) -> None:
    for a, b in zip(everything(net), everything(other), strict=True):
        np.testing.assert_array_equal(a, b)
    assert (net.session.engine.steps, net.session.engine.state_layout) == (
        other.session.engine.steps,
        other.session.engine.state_layout,
    )


def separately(net: fastbp.MLP, X: np.ndarray, y: np.ndarray, recipe: Any) -> float:
    gradient = net.backprop(X, y)
    recipe.update(net, gradient)
    return gradient.loss


def gradients_of_step(step: int, shapes: list[tuple[int, ...]]) -> list[np.ndarray]:
    """Of very different sizes from step to step."""
    rng = np.random.default_rng([7, step])
    return [rng.normal(0, 10.0 ** (step % 4 - 2), shape) for shape in shapes]


@pytest.mark.parametrize("optimizer", ALL_OPTIMIZERS, ids=repr)
def test_rule_against_its_formula(optimizer: Any) -> None:
    """The NumPy network's rule with it."""
    net, twin = (cls([5, 19, 3], dtype="float64", seed=0) for cls in (fastbp.MLP, NumpyMLP))
    exact = [array.astype(naive.Wide) for array in [*net.weights, *net.biases]]
    states: list[dict[str, Any]] = [{} for _ in exact]
    start, named = net.weights[0], SimpleNamespace(**options(optimizer))
    for step in range(200):
        gradients = gradients_of_step(step, [array.shape for array in exact])
        gradient = Gradient(None, gradients[:2], gradients[2:], np.empty(0))
        optimizer.update(net, gradient)
        twin.apply(optimizer, gradient)
        exact = [
            naive.OPTIMIZERS[optimizer.name](w, g, step + 1, state, named)
            for w, g, state in zip(exact, gradients, states, strict=True)
        ]
    for one in (net, twin):
        for found, expected in zip([*one.weights, *one.biases], exact, strict=True):
            np.testing.assert_allclose(found, expected.astype(float), rtol=1e-9, atol=1e-9)
    assert np.abs(net.weights[0] - start).max() > 1e-3


@needs("torch")
@pytest.mark.parametrize("optimizer", IN_TORCH, ids=repr)
def test_rule_against_torch(optimizer: Any) -> None:
    net = fastbp.MLP([5, 19, 3], dtype="float64", seed=0)
    parameters = [torch.tensor(array, requires_grad=True) for array in [*net.weights, *net.biases]]
    theirs = make_torch(optimizer, parameters)
    for step in range(200):
        gradients = gradients_of_step(step, [tuple(p.shape) for p in parameters])
        optimizer.update(net, Gradient(None, gradients[:2], gradients[2:], np.empty(0)))
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = torch.tensor(gradient)
        theirs.step()
    for found, expected in zip([*net.weights, *net.biases], parameters, strict=True):
        np.testing.assert_allclose(found, expected.detach().numpy(), rtol=1e-9, atol=1e-9)


@needs("torch")
@pytest.mark.parametrize("optimizer", [one for one in IN_TORCH if one == type(one)()], ids=repr)
def test_defaults_are_those_of_torch(optimizer: Any) -> None:
    defaults = make_torch(optimizer, [torch.zeros(1)]).defaults
    assert options(optimizer) == {name: defaults[name] for name in options(optimizer)}


@pytest.mark.parametrize(("sizes", "rows"), SHAPES)
@pytest.mark.parametrize("recipe", ONE_A_RULE, ids=repr)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_backprop_and_update_make_a_train_step(dtype: str, recipe: Any, sizes: list[int], rows: int) -> None:
    net, X, y = make(sizes, rows, dtype)
    assert (net.session.layout.n_groups(rows) > 0) == (rows == 1511)
    other, start = net.copy(), net.weights[0]
    for _ in range(4):
        assert separately(other, X, y, recipe) == net.train_step(X, y, recipe)
        assert_same_bits(net, other)
    assert not np.array_equal(net.weights[0], start)


@pytest.mark.parametrize(("sizes", "rows"), SHAPES)
@pytest.mark.parametrize("recipe", ONE_A_RULE, ids=repr)
def test_two_passes_make_the_bits_of_one(
    recipe: Any, sizes: list[int], rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a step that lasts long does, to be interrupted up to its last moment."""
    fused, X, y = make(sizes, rows, "float32")
    double = fused.copy()
    losses = [fused.train_step(X, y, recipe) for _ in range(3)]
    fused.fit(X, y, epochs=2, batch_size=7, optimizer=recipe)
    monkeypatch.setattr(tuning, "LONG_STEP_FLOPS", 0.0)
    assert [double.train_step(X, y, recipe) for _ in range(3)] == losses
    double.fit(X, y, epochs=2, batch_size=7, optimizer=recipe)
    assert double.session.engine.job[0]["two_pass"] == 1
    assert double.history.loss == fused.history.loss
    assert_same_bits(fused, double)


@pytest.mark.parametrize(("sizes", "rows"), SHAPES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_padding_stays_zero_and_the_transposed_copy_fresh(dtype: str, sizes: list[int], rows: int) -> None:
    net, X, y = make(sizes, rows, dtype)
    for _ in range(3):
        net.train_step(X, y, AdamW(lr=0.01))
    assert_same_bits(net, net.copy())  # which is packed anew from weights, biases and unpadded moments


def padding(net: fastbp.MLP) -> np.ndarray:
    """Which numbers of flat parameters are neither weights nor biases."""
    flags = np.ones(net.session.layout.n_parameters, bool)
    flags[net.session.layout.places()] = False
    return flags


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "recipe", [*ALL_OPTIMIZERS, *(dataclasses.replace(one, clip_norm=1.0) for one in ONE_A_RULE)], ids=repr
)
def test_no_rule_writes_to_the_padding(recipe: Any, dtype: str) -> None:
    """Weights, transposed copies, moments and gradients stay zero there, by every route."""
    net, X, y = make([7, 33, 5], 19, dtype)
    unused, flags = net.session.layout.layers[0].transposed_size, padding(net)
    for number in range(3):
        net.train_step(X, y, recipe)
        separately(net, X, y, recipe)
        net.fit(X, y, epochs=2, batch_size=4, optimizer=recipe)
        assert len(net.session.engine.moments) == recipe.n_moments
        for array in (net.session.engine.parameters, *net.session.engine.moments, net.session.engine.need_gradient()):
            assert not array[flags].any(), number
        fresh = fastbp.MLP([7, 33, 5], dtype=dtype)
        fresh.set_weights(net.weights, net.biases)
        fresh.session.engine.mirror()
        np.testing.assert_array_equal(net.session.engine.transposed[unused:], fresh.session.engine.transposed[unused:])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", RULES)
def test_a_rule_leaves_padding_at_zero(name: str, dtype: str) -> None:
    """Whatever its rates are: see `Rule`. An element beside it, with a weight and a gradient, changes."""
    rng, kind, n = np.random.default_rng(0), np.dtype(dtype), 48  # whole vectors
    run = build.prepare(update.update.leaf, dtype)
    for scale in (1e-30, 1e-3, 1.0, 1e3):
        arrays = [allocate(n, kind) for _ in range(5)]  # weights, gradient and three moments
        rates = allocate(N_RATES, kind)
        rates[:] = scale * rng.uniform(0.01, 1.0, N_RATES)
        for array in arrays:
            array[5] = rng.uniform(0.1, 1.0)
        job = np.zeros(1, JOB)
        job["optimizer"] = list(RULES).index(name)
        for field, array in zip(("parameters", "state1", "state2", "state3"), [arrays[0], *arrays[2:]], strict=True):
            job[field] = address(array)
        before = arrays[0].copy()
        run(job[0], address(arrays[1]), address(rates), 0, n, 0, kind.type(1))
        for array in arrays:
            assert not np.delete(array, 5).any()
    assert arrays[0][5] != before[5]


@pytest.mark.parametrize("name", RULES)
def test_a_rule_names_what_it_has(name: str) -> None:
    rule = RULES[name]
    assert bool(rule.rates) == bool(rule.own)
    assert len(set(rule.rate_names)) == len(rule.rate_names) <= N_RATES
    assert rule.n_scalars == len(initial_scalars(name))


@pytest.mark.parametrize("recipe", [SGD(0.1), SGD(0.1, momentum=0.9), Adam(), Adam(clip_norm=1.0)], ids=repr)
def test_a_network_that_was_not_finite_is_cured(recipe: Any) -> None:
    """By new weights and moments: nothing is left in the padding, and training gives the bits of a fresh network."""
    net, X, y = make([7, 33, 5], 19, "float32")
    fresh = net.copy()
    fresh.train_step(X, y, recipe)
    start, state = (fresh.weights, fresh.biases), fresh.optimizer_state()
    for _ in range(4):
        net.train_step(X, y, dataclasses.replace(recipe, lr=1e38))
    for moment in net.session.engine.moments:
        moment[:] = np.nan
    net.session.engine.need_gradient()[:] = np.nan
    assert not np.isfinite(net.weights[0]).any()
    assert np.isnan(net.session.engine.parameters[padding(net)]).any()  # which `weights` does not show
    net.set_weights(*start)
    net.load_optimizer_state(state)
    assert_same_bits(net, fresh)
    for one in (net, fresh):
        separately(one, X, y, recipe)
        one.train_step(X, y, recipe)
        one.fit(X, y, epochs=2, batch_size=5, optimizer=recipe)
    assert_same_bits(net, fresh)
    assert np.isfinite(net.weights[0]).all()


@pytest.mark.parametrize("recipe", ONE_A_RULE, ids=repr)
def test_moments_persist_from_call_to_call(recipe: Any) -> None:
    stepped, X, y = make([7, 33, 5], 19, "float32")
    mixed = stepped.copy()
    for _ in range(7):
        stepped.train_step(X, y, recipe)
    whole_batches = {"batch_size": 19, "shuffle": False, "optimizer": recipe}
    mixed.fit(X, y, epochs=2, **whole_batches)
    mixed.train_step(X, y, recipe)
    separately(mixed, X, y, recipe)
    mixed = mixed.copy()
    mixed.fit(X, y, epochs=3, **whole_batches)
    assert_same_bits(stepped, mixed)


@needs("torch")
def test_moments_persist_when_only_the_rates_change() -> None:
    net, rng = fastbp.MLP([5, 4, 3], dtype="float64", seed=0), np.random.default_rng(0)
    parameters = [torch.tensor(array, requires_grad=True) for array in [*net.weights, *net.biases]]
    optimizer = torch.optim.Adam(parameters, lr=0.1)
    for lr in (0.1, 0.1, 0.02, 0.3):
        optimizer.param_groups[0]["lr"] = lr
        gradients = [rng.standard_normal(tuple(p.shape)) for p in parameters]
        Adam(lr=lr).update(net, Gradient(None, gradients[:2], gradients[2:], np.empty(0)))
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = torch.tensor(gradient)
        optimizer.step()
    np.testing.assert_allclose(net.weights[1], parameters[1].detach().numpy(), rtol=1e-12)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (Adam(), AdamW()),
        (SGD(momentum=0.9), SGD()),
        (SGD(), SGD(momentum=0.9)),
        (RMSprop(), SGD(momentum=0.9)),
        (AdamW(), RMSprop()),
        (Adam(), Adam(amsgrad=True)),
        (Adam(amsgrad=True), Adam()),
        (RMSprop(centered=True), RMSprop(momentum=0.9)),
        (RMSprop(), RMSprop(centered=True, momentum=0.9)),
        (NAdam(), RAdam()),
        (NAdam(), Adam()),
        (Rprop(), Adagrad(initial_accumulator_value=0.5)),
    ],
)
def test_moments_restart_when_the_optimizer_changes(before: Any, after: Any) -> None:
    net, X, y = make([7, 33, 5], 19)
    net.fit(X, y, epochs=2, optimizer=before)
    fresh, _, _ = make([7, 33, 5], 19)
    fresh.set_weights(net.weights, net.biases)
    for one in (net, fresh):
        one.train_step(X, y, after)
        one.fit(X, y, epochs=2, batch_size=5, optimizer=after)
    assert_same_bits(net, fresh)
    assert net.history.loss == fresh.history.loss  # the count of epochs, which shuffles, restarts too


@pytest.mark.parametrize("recipe", ONE_A_RULE, ids=repr)
def test_reset_optimizer(recipe: Any) -> None:
    net, X, y = make([7, 33, 5], 19)
    net.fit(X, y, epochs=2, batch_size=5, optimizer=recipe)
    fresh, _, _ = make([7, 33, 5], 19)
    fresh.set_weights(net.weights, net.biases)
    net.reset_optimizer()
    for one in (net, fresh):
        one.fit(X, y, epochs=2, batch_size=5, optimizer=recipe)
    assert_same_bits(net, fresh)


def test_set_weights_keeps_moments() -> None:
    net, X, y = make([7, 5], 19)
    net.train_step(X, y, Adam())
    before = [moment.copy() for moment in net.session.engine.moments]
    net.set_weights([np.ones((7, 5))], [np.ones(5)])
    assert net.session.engine.steps == 1
    for old, new in zip(before, net.session.engine.moments, strict=True):
        np.testing.assert_array_equal(old, new)


def test_backprop_changes_nothing() -> None:
    net, X, y = make([7, 33, 5], 19)
    net.train_step(X, y, Adam())
    before = [array.copy() for array in (net.session.engine.parameters, *net.session.engine.moments)]
    net.backprop(X, y)
    net.backprop(X, output_gradient=y)
    for old, new in zip(before, (net.session.engine.parameters, *net.session.engine.moments), strict=True):
        np.testing.assert_array_equal(old, new)
    assert net.session.engine.steps == 1


@pytest.mark.parametrize("how", ["saved", "copied"])
@pytest.mark.parametrize("recipe", ONE_A_RULE, ids=repr)
def test_training_goes_on_bit_for_bit(recipe: Any, how: str, tmp_path: Path) -> None:
    """Also in the middle of an epoch's worth of steps, after odd and even numbers of updates."""
    for before in (1, 4):
        net, X, y = make([7, 33, 5], 19, "float32")
        for _ in range(before):
            net.train_step(X, y, recipe)
        net.save(tmp_path / "net")
        other = net.copy() if how == "copied" else fastbp.load(tmp_path / "net")
        for one in (net, other):
            one.train_step(X, y, recipe)
            one.fit(X, y, epochs=2, batch_size=5, optimizer=recipe)
        assert_same_bits(net, other)


@pytest.mark.parametrize("recipe", ALL_OPTIMIZERS, ids=repr)
def test_same_bits_on_any_threads_and_in_any_chunks(recipe: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    nets = []
    for threads, most in ((1, 1 << 16), (3, 1 << 16), (2, 1)):
        monkeypatch.setattr(tuning, "MAX_STEPS", most)
        net, X, y = make([7, 33, 5], 23, "float32")
        net.fit(X, y, epochs=3, batch_size=4, optimizer=recipe, threads=threads)
        nets.append(net)
    assert_same_bits(nets[0], nets[1])
    assert_same_bits(nets[0], nets[2])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("recipe", ONE_A_RULE, ids=repr)
def test_padding_stays_zero_even_without_eps(recipe: Any, dtype: str) -> None:
    """And so do weights whose gradient is always zero: no 0 / 0."""
    if hasattr(recipe, "eps"):
        recipe = dataclasses.replace(recipe, eps=0.0)
    net, X, y = make([7, 33, 5], 19, dtype)
    X[:, 2] = 0.0
    before = net.weights[0][2]
    for _ in range(30):
        net.train_step(X, y, recipe)
    assert padding(net).any()
    assert not net.session.engine.parameters[padding(net)].any()
    assert all(np.isfinite(array).all() for array in everything(net))
    if not recipe.weight_decay:
        np.testing.assert_array_equal(net.weights[0][2], before)


@needs("torch")
def test_nadam_follows_a_schedule_of_momenta() -> None:
    """The product of momenta is that of the steps made, whatever the momentum is now: PyTorch's OneCycleLR."""
    net, X, y = make([5, 8, 2], 12)
    parameters = [torch.tensor(array, requires_grad=True) for array in [*net.weights, *net.biases]]
    optimizer = torch.optim.NAdam(parameters, lr=0.02, momentum_decay=0.05)
    schedule = schedules.OneCycle(20.0)
    twin = net.copy()
    for step in range(20):
        epoch = np.array([float(step)])
        (factor,), (momentum,) = schedule.factors(epoch), schedule.momenta(epoch)
        optimizer.param_groups[0].update(lr=0.02 * factor, betas=(momentum, 0.999))
        gradient = twin.backprop(X, y)
        for parameter, value in zip(parameters, [*gradient.weights, *gradient.biases], strict=True):
            parameter.grad = torch.tensor(value)
        optimizer.step()
        moved = [p.detach().numpy() for p in parameters]
        twin.set_weights(moved[:2], moved[2:])
    recipe = NAdam(lr=0.02, momentum_decay=0.05)
    for epochs in (7, 13):  # two calls
        net.fit(X, y, epochs=epochs, batch_size=12, shuffle=False, optimizer=recipe, schedule=schedule)
    np.testing.assert_allclose(net.weights[0], twin.weights[0], rtol=1e-9, atol=1e-9)


def test_nadam_goes_back_after_a_divergence() -> None:
    """To where it was, with the product of momenta that belongs there: weights that are not finite are never kept."""
    net, X, y = make([5, 8, 2], 12, "float32")
    net.fit(X, y, epochs=3, batch_size=5, optimizer="nadam")
    twin = net.copy()
    with pytest.raises(fastbp.DivergenceError):
        net.fit(X, y, epochs=50, optimizer="nadam", schedule=lambda step: 1e300)
    assert_same_bits(net, twin)
    assert net.optimizer_state()["product"] == twin.optimizer_state()["product"] < 1.0


def test_state_of_an_older_file_loads() -> None:
    net, X, y = make([5, 8, 2], 12)
    net.train_step(X, y, "adam")
    state = net.optimizer_state()
    del state["product"]
    net.load_optimizer_state(state)
    assert net.optimizer_state()["product"] == 1.0


def test_centered_rmsprop_survives_a_constant_gradient() -> None:
    """v - a^2 is then a difference of equals, which rounding turns negative: PyTorch's root of it is NaN."""
    net, _, _ = make([3, 2], 1, "float32")
    gradient = Gradient(None, [np.full((3, 2), 0.3, np.float32)], [np.full(2, 0.7, np.float32)], np.empty(0))
    for _ in range(300):
        RMSprop(lr=1e-9, alpha=0.5, centered=True).update(net, gradient)
    assert np.isfinite(net.weights[0]).all()


def test_rprop_refuses_a_schedule_and_changes_nothing() -> None:
    net, X, y = make([5, 8, 2], 12)
    net.train_step(X, y, "adam")
    with pytest.raises(ValueError, match="schedule must be None, got Cosine"):
        net.fit(X, y, optimizer="rprop", schedule=schedules.Cosine(3))
    assert net.session.engine.state_layout == ("adam", 2)


@pytest.mark.parametrize(
    ("make_bad", "says"),
    [
        (lambda: SGD(momentum=0.9, dampening=0.1, nesterov=True), "dampening=0.1"),
        (lambda: SGD(dampening=0.1), "momentum=0.0"),
        (lambda: SGD(momentum=0.9, dampening=1.5), "dampening must be from 0 to 1, got 1.5"),
        (lambda: NAdam(momentum_decay=-1.0), "momentum_decay"),
        (lambda: RAdam(betas=(0.9, 1.0)), r"betas\[1\]"),
        (lambda: Adamax(eps=-1.0), "eps"),
        (lambda: fastbp.Lion(betas=(1.0, 0.9)), r"betas\[0\]"),
        (lambda: RMSprop(momentum=-0.5), "momentum"),
        (lambda: Adagrad(lr_decay=-1.0), "lr_decay"),
        (lambda: Adagrad(initial_accumulator_value=-1.0), "initial_accumulator_value"),
        (lambda: Adadelta(rho=1.0), "rho"),
        (lambda: Rprop(etas=(1.1, 1.2)), r"etas .* got \(1.1, 1.2\)"),
        (lambda: Rprop(etas=(0.5, 1.0)), "etas"),
        (lambda: Rprop(etas=0.5), "etas must be two numbers, got 0.5"),
        (lambda: Rprop(step_sizes=(1.0, 0.1)), r"step_sizes .* got \(1.0, 0.1\)"),
        (lambda: Rprop(step_sizes=(-1.0, 0.1)), r"step_sizes\[0\]"),
    ],
)
def test_bad_arguments(make_bad: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        make_bad()
