"""What becomes of the runs of a sweep: judged by their end, given up only where nothing is to be hoped for."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_sweep import check_against_fit, line

from fastbp import MLP, SGD, CrossEntropy, lr_sweep, schedules
from fastbp.engine import tuning
from fastbp.many import native, report
from fastbp.many.ledger import limit
from fastbp.many.text import FAILURES

pytestmark = pytest.mark.filterwarnings("ignore:the best learning rate")

# Of one step an epoch: windows of 13 steps, four of which have to be above the limit.
LONG = 52


def housing() -> tuple[MLP, Any, Any]:
    """A table of 506 rows and 13 columns, on which Adam overshoots in its first steps."""
    rng = np.random.default_rng(5)
    X = rng.standard_normal((506, 13))
    y = 22.5 + 9 * np.tanh(X[:, 0] + 0.5 * X[:, 1] * X[:, 2]) + 2 * X[:, 3] + rng.standard_normal(506)
    net = MLP([13, 128, 64, 1], loss="mse", seed=0)
    net.standardize(X, y)
    return net, X, y


def after_a_blow(rates_after: Any, *, height: float = 1e6) -> dict[str, Any]:
    """One weight with loss w^2 / 2, one step an epoch: thrown far up by the first step, then as these rates have it."""
    start = MLP([1, 1], loss="mse", dtype="float64", seed=4)
    w = float(start.weights[0][0, 0])
    X, y = np.ones((8, 1)), np.zeros((8, 1))
    # dJ/dw = dJ/db = 2 (w + b): the residual is multiplied by 1 - 4 lr a step.
    blow = (np.sqrt(height) / abs(w) + 1.0) / 4.0

    def rate(step: int) -> float:
        return float(blow if step == 0 else rates_after(step))

    return {"net": start, "X": X, "y": y, "schedule": rate, "validation_data": (X, y), "optimizer": SGD(),
            "batch_size": 8, "seeds": [4]}  # fmt: skip


def falling(by: float) -> Any:
    """The rate at which the loss falls by this share a step."""
    return lambda step: (1.0 - np.sqrt(1.0 - by)) / 4.0


# --- not given up -------------------------------------------------------------------------------------------


def test_the_first_spike_of_adam_is_no_divergence() -> None:
    net, X, y = housing()
    options: dict[str, Any] = {"epochs": 50, "batch_size": 81}
    sweep = lr_sweep(net, X, y, [0.05, 0.1], seeds=2, **options)
    over = sweep.train_loss > limit(sweep.start_loss)[:, None]
    assert over[:, :, 0].all()  # in the first of epochs of five steps
    assert sweep.outcome.tolist() == [["finished"] * 2] * 2
    assert not sweep.diverged.any()
    assert sweep.best_lr in (0.05, 0.1)
    assert (sweep.final_loss < 0.7 * sweep.start_loss).all()
    check_against_fit(sweep, net, X, y, **options)


@pytest.mark.parametrize(("share", "epochs"), [(0.1, 100), (0.01, 100), (0.0001, 100), (0.01, 2000)])
def test_what_falls_is_not_given_up(share: float, epochs: int) -> None:
    """However slowly, and whether it arrives or not."""
    options = after_a_blow(falling(share))
    sweep = lr_sweep(options.pop("net"), options.pop("X"), options.pop("y"), [1.0], epochs=epochs, **options)
    bound = limit(sweep.start_loss)[0]
    assert (sweep.train_loss[0, 0, 1 : LONG + 20] > bound).all()  # or it would be out of danger
    assert sweep.status.tolist() == [["finished"]]
    assert sweep.epochs_done[0, 0] == epochs
    arrives = 1e6 * (1 - share) ** epochs < float(sweep.start_loss[0])
    assert sweep.outcome[0, 0] == ("finished" if arrives else "no better than untrained")


def test_one_step_below_the_limit_begins_the_count_anew() -> None:
    options = after_a_blow(lambda step: 0.0)
    rate = options["schedule"]
    w2 = float(np.sqrt(1e6))

    def dip(step: int) -> float:
        """Down to a residual of 1 and up again, at step 40."""
        return {40: (1 - 1 / w2) / 4, 41: (1 + w2) / 4}.get(step, rate(step))

    options["schedule"] = dip
    sweep = lr_sweep(options.pop("net"), options.pop("X"), options.pop("y"), [1.0], epochs=120, **options)
    losses, bound = sweep.train_loss[0, 0], limit(sweep.start_loss)[0]
    assert losses[40] > bound > losses[41]
    assert losses[42] > bound
    assert sweep.epochs_done[0, 0] == 42 + LONG - 1


# --- given up -----------------------------------------------------------------------------------------------


def test_what_stays_above_for_long_is_given_up() -> None:
    options = after_a_blow(lambda step: 0.0)
    net, X, y = options.pop("net"), options.pop("X"), options.pop("y")
    sweep = lr_sweep(net, X, y, [1e-3, 1.0], epochs=200, **{**options, "schedule": lambda step: 1.0})
    assert sweep.outcome.tolist() == [["finished"], ["stopped"]]  # 1.0 multiplies the residual by -3
    sweep = lr_sweep(net, X, y, [1.0], epochs=200, **options)
    assert sweep.status.tolist() == [["stopped"]]
    assert sweep.epochs_done[0, 0] == 1 + LONG - 1  # the first loss is that of the start; the last step is not counted
    assert np.isnan(sweep.final_loss).all()
    assert sweep.diverged.all()
    assert "given up (1 of 1)" in " ".join(str(sweep).split())
    assert "diverged (" not in str(sweep)


def test_a_fall_with_ups_and_downs_counts_if_it_arrives() -> None:
    """By a tenth in 52 steps, of which half go upwards."""

    def hop(step: int) -> float:
        up = (1.0 + np.sqrt(1.004)) / 4.0  # past the minimum, and a little further than before
        return float(falling(0.008)(step) if step // 26 % 2 else up)

    options = after_a_blow(hop)
    net, X, y = options.pop("net"), options.pop("X"), options.pop("y")
    assert lr_sweep(net, X, y, [1.0], epochs=120, **options).status.tolist() == [["stopped"]]
    found = lr_sweep(net, X, y, [1.0], epochs=8000, **options)
    assert found.status.tolist() == [["finished"]]
    assert found.eligible.all()


@pytest.fixture(scope="module")
def hopeless() -> tuple[MLP, Any, Any, dict[str, Any]]:
    """Rates at which networks of tanh hop about for ever, in epochs of 20 steps."""
    rng = np.random.default_rng(1)
    X = rng.standard_normal((200, 8)).astype(np.float32)
    y = (X @ rng.standard_normal((8, 3))).argmax(axis=1)
    return MLP([8, 16, 3], activation="tanh", seed=0), X, y, {"seeds": 2, "optimizer": "sgd", "batch_size": 8}


RATES = [0.1, 1e5, 1e6, 1e7]


def test_the_outcome_does_not_depend_on_how_the_runs_are_carried(
    hopeless: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    net, X, y, options = hopeless
    options = {**options, "epochs": 12}
    expected = lr_sweep(net, X, y, RATES, threads=1, **options)
    assert expected.status.tolist() == [["finished"] * 2] + [["stopped"] * 2] * 3
    assert (expected.epochs_done[1:] >= 2).all()
    assert (expected.epochs_done[1:] <= 6).all()
    check_against_fit(expected, net, X, y, **{name: options[name] for name in ("epochs", "optimizer", "batch_size")})

    def check(**more: Any) -> None:
        found = lr_sweep(net, X, y, RATES, **options, **more)
        assert found.status.tolist() == expected.status.tolist()
        for name in ("train_loss", "val_loss"):
            assert getattr(found, name).tobytes() == getattr(expected, name).tobytes()

    check(threads=3)
    # Epoch by epoch, in calls of their own.
    check(schedule=schedules.ReduceOnPlateau(patience=1000))
    with monkeypatch.context() as patch:  # after every step
        patch.setattr(tuning, "CHUNK_SECONDS", 1e-9)
        patch.setattr(tuning, "LONG_STEP_FLOPS", 1.0)
        check(threads=2)
    with monkeypatch.context() as patch:  # in waves, and from the start again after each epoch
        patch.setattr(native, "BUDGET_BYTES", 1)
        check(schedule=schedules.ReduceOnPlateau(patience=1000))


def test_halving_gives_up_too(hopeless: Any) -> None:
    """The count goes on from rung to rung."""
    net, X, y, options = hopeless
    full = lr_sweep(net, X, y, RATES[1:3], epochs=8, **options)
    halved = lr_sweep(net, X, y, RATES[1:3], epochs=8, halving=2, **options)
    k = int(np.flatnonzero(halved.eliminated == 0)[0])
    assert halved.status[k].tolist() == full.status[k].tolist() == ["stopped"] * 2
    assert halved.epochs_done[k].tolist() == full.epochs_done[k].tolist()


def test_batches_in_which_nothing_counts_neither_help_nor_harm(hopeless: Any) -> None:
    _, X, y, _ = hopeless
    labels = np.where(np.arange(len(y)) % 3 == 0, y, -1)
    loss = CrossEntropy(ignore_index=-1, label_smoothing=0.5)  # no row is right with outputs that are far apart
    net = MLP([8, 16, 3], activation="tanh", loss=loss, seed=0)
    options = {"epochs": 12, "batch_size": 1, "optimizer": "sgd"}
    sweep = lr_sweep(net, X, labels, [0.01, 1e6], seeds=2, **options)
    assert sweep.status.tolist() == [["finished"] * 2, ["stopped"] * 2]
    check_against_fit(sweep, net, X, labels, **options)


def test_runs_that_are_given_up_cost_little() -> None:
    """Of the sweep that `bench` times: where losses stay finite a run ends after its second epoch at the latest."""
    from fastbp.bench import rivals, sweeps, workloads

    for workload in workloads.SWEEPS.values():
        rival = sweeps.FastbpSweep()
        rival.setup(rivals.Task.of(workload))
        found = rival.sweep(sweeps.DIVERGING_RATES[16:], workloads.SWEEP_EPOCHS)
        finite = workload.activation == "tanh"
        assert set(found.status.ravel()) == {"stopped" if finite else "diverged"}
        assert found.epochs_done.mean() <= (1.2 if finite else 0.2)


# --- judged by the end --------------------------------------------------------------------------------------


def test_a_rate_that_ends_worse_than_it_began_is_not_eligible(tmp_path: Path) -> None:
    net, X, y = housing()
    sweep = lr_sweep(net, X, y, [0.01, 1.0, 30.0], seeds=2, epochs=6, batch_size=200)
    worse = sweep.val_loss[:, :, -1] > sweep.start_loss
    assert worse.tolist() == [[False] * 2, [True] * 2, [True] * 2]
    assert (sweep.status == "finished").all()
    assert (sweep.outcome[1:] == "no better than untrained").all()
    assert sweep.no_better.tolist() == worse.tolist()
    assert sweep.eligible.tolist() == [True, False, False]
    assert sweep.best_lr == 0.01
    assert np.isnan(sweep.mean_val_loss[1:]).all()
    assert np.isfinite(sweep.final_loss).all()
    assert np.isfinite(sweep.sensitivity)
    assert not sweep.diverged.any()
    assert " ".join(str(sweep).split()).count("no better than untrained (2 of 2)") == 2
    sweep.to_csv(tmp_path / "sweep.csv")
    with open(tmp_path / "sweep.csv", newline="", encoding="utf-8") as file:
        statuses = [row["status"] for row in csv.DictReader(file)]
    assert statuses == ["finished"] * 2 + ["no better than untrained"] * 4
    assert sweep.plot() is not None
    page = report.page(sweep, "", None, None)
    assert page.count('<span class="tag worse">no better than untrained (2 of 2)</span>') == 2
    marks = json.loads(page.partition('id="data">')[2].partition("</script>")[0])
    assert [mark["kind"] for mark in marks["marks"]] == ["worse"] * 2
    assert [run["kind"] for run in marks["runs"]] == ["finished"] * 2 + ["worse"] * 4


def test_a_single_bad_seed_does_not_pass_as_noise() -> None:
    """Its error is as wide as its difference from the best, which would count as no difference."""
    X, y = line()
    sweep = lr_sweep(MLP([6, 8, 2], loss="mse", seed=0), X, y, [1e-3, 1e-2, 1e-1], seeds=3, epochs=2)
    sweep.val_loss[:, :, -1] = [[1.0, 1.1, 1.2], [0.9, 1.0, 1.1], [0.9, 1.0, 40.0]]
    sweep.start_loss[:] = 2.0
    vars(sweep).pop("comparison", None)
    assert sweep.best_lr == 1e-2
    assert sweep.in_interval.tolist() == [False, True, False]
    assert sweep.eligible.tolist() == [True, True, False]


def test_no_rate_is_better_than_the_untrained_network() -> None:
    net, X, y = housing()
    sweep = lr_sweep(net, X, y, [3.0, 30.0], seeds=2, epochs=4, batch_size=200)
    assert sweep.best_lr is sweep.interval is None
    assert sweep.notes[0].startswith("no rate has finished with all its seeds better than the untrained network")
    assert "better than the untrained network" in report.tiles(sweep)[0][2]


def test_the_bar_shows_no_rate_that_is_worse_than_the_start() -> None:
    from fastbp.many.ledger import Ledger
    from fastbp.many.progress import best_so_far

    ledger = Ledger([0.1, 0.1, 1.0, 1.0], [0, 1, 0, 1], 1)
    ledger.done[:], ledger.start_loss[:] = 1, 2.0
    ledger.val_loss[:, 0] = [1.5, 1.7, 0.1, 2.1]
    assert best_so_far(ledger, 2) == (0.1, pytest.approx(1.6))


def test_a_value_that_overflows_is_not_the_rates_fault(tmp_path: Path) -> None:
    X, y = line()
    X = X.astype(np.float32)
    held = X[:20].copy(), y[:20].copy()
    held[1][7, 1] = 1e25
    net = MLP([6, 8, 2], loss="mse", seed=0)
    options: dict[str, Any] = {"seeds": 2, "epochs": 3, "validation_data": held, "journal": tmp_path / "runs.jsonl"}
    sweep = lr_sweep(net, X, y, [1e-3, 1e-2], **options)
    assert (sweep.status == "overflowed").all()
    assert not sweep.diverged.any()
    assert sweep.divergence_boundary is None
    assert (sweep.epochs_done == 3).all()
    assert np.isfinite(sweep.train_loss).all()
    assert sweep.best_lr is None
    told = next(note for note in sweep.notes if "overflow" in note)
    assert "not finite in 4 runs whose training is fine" in told
    assert "validation y[7, 1] = 1e+25" in told
    assert "smaller rates" not in str(sweep)
    assert "held-out loss not finite (2 of 2)" in " ".join(str(sweep).split())
    again = lr_sweep(net, X, y, [1e-3, 1e-2], **options)
    assert again.status.tolist() == sweep.status.tolist()
    assert again.busy_seconds == 0.0
    report.page(sweep, "", None, None)
    # In float64 there is room for it.
    wide = lr_sweep(MLP([6, 8, 2], loss="mse", seed=0, dtype="float64"), X, y, [1e-3, 1e-2], seeds=1, epochs=3,
                    validation_data=held)  # fmt: skip
    assert (wide.status == "finished").all()


def test_an_overflow_that_passes_is_forgotten() -> None:
    """The weight is thrown up by the first step, and comes down; the row held out is a million times the others."""
    options = after_a_blow(lambda step: 0.2)
    net = MLP([1, 1], loss="mse", seed=4)  # float32
    held = np.full((1, 1), 1e17), np.zeros((1, 1))
    options |= {"validation_data": held}
    del options["net"]
    sweep = lr_sweep(net, options.pop("X"), options.pop("y"), [1.0], epochs=40, **options)
    assert np.isnan(sweep.val_loss[0, 0, 0])
    assert np.isfinite(sweep.val_loss[0, 0, -1])
    assert sweep.status.tolist() == [["finished"]]


def test_an_overflow_after_a_hopeless_training_is_the_rates() -> None:
    net = MLP([1, 1], loss="mse", seed=4)
    options = after_a_blow(lambda step: 0.0, height=1e36)
    held = np.full((1, 1), 1e17), np.zeros((1, 1))
    sweep = lr_sweep(
        net, options["X"], options["y"], [1.0], epochs=2, seeds=[4], batch_size=8, optimizer="sgd",
        schedule=options["schedule"], validation_data=held,
    )  # fmt: skip
    assert np.isfinite(sweep.train_loss).all()
    assert sweep.status.tolist() == [["diverged"]]
    assert sweep.epochs_done.tolist() == [[2]]


def test_every_outcome_has_its_words() -> None:
    assert set(FAILURES) == {"diverged", "stopped", "no better than untrained", "overflowed"}


def test_what_an_earlier_journal_gave_up_is_done_again(tmp_path: Path) -> None:
    """Its other runs hold; and what is written now is not done again a second time."""
    net, X, y = housing()
    options: dict[str, Any] = {"seeds": 2, "epochs": 12, "batch_size": 81, "journal": tmp_path / "runs.jsonl"}
    rates = [1e-3, 0.1]
    expected = lr_sweep(net, X, y, rates, **options)
    header, *lines = options["journal"].read_text().splitlines()
    records = [json.loads(line) for line in lines]
    for record in records:
        del record["rule"]
        record.pop("checksum", None)
        if record["lr"] == 0.1:  # as the first rule has it
            record |= {"status": "stopped", "epochs": 1} | {
                name: record[name][:1] for name in ("train_loss", "val_loss", "epoch_seconds")
            }
    plain = {name: value for name, value in json.loads(header).items() if name != "checksum"}
    old = [json.dumps(line) for line in (plain, *records)]
    options["journal"].write_text("\n".join([*old, ""]))
    for n_lines in (7, 7):
        found = lr_sweep(net, X, y, rates, **options)
        assert found.outcome.tolist() == expected.outcome.tolist()
        assert found.val_loss.tobytes() == expected.val_loss.tobytes()
        assert options["journal"].read_text().count("\n") == n_lines
