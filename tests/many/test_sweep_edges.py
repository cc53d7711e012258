"""Sweeps, range tests and stability at their edges: interrupted, resumed, failing, with labels that do not count."""

from __future__ import annotations

import concurrent.futures
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from oracles import ONE_A_RULE

import fastbp
from fastbp import MLP, SGD
from fastbp.cli.main import main
from fastbp.many import runs

pytestmark = pytest.mark.filterwarnings("ignore:the best learning rate")  # at the edge of these short grids
RNG = np.random.default_rng(12)
X, Y = RNG.standard_normal((120, 4)), np.arange(120) % 3
RATES = np.geomspace(1e-3, 0.3, 7)


def make(**options: Any) -> MLP:
    return MLP([4, 6, 3], activation="tanh", seed=1, **options)


def test_ignored_labels_weigh_nothing_in_the_hessian(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastbp.many.hessian.BLOCK_ROWS", 50)
    labels = Y.copy()
    labels[:100] = -1
    net = make(dtype="float64", loss=fastbp.CrossEntropy(ignore_index=-1))
    found = fastbp.lr_stability(net, X, labels, optimizer="sgd", tol=1e-6)
    apart = fastbp.lr_stability(net, X[100:], labels[100:], optimizer="sgd", tol=1e-6)
    assert found.lines[0] == pytest.approx(apart.lines[0], rel=1e-4)


WITH_A_LINE = {"sgd", "momentum", "nesterov", "dampened", "adam", "adamw", "rmsprop"}  # by theory


@pytest.mark.parametrize("optimizer", [one for one in ONE_A_RULE if one.rule not in WITH_A_LINE], ids=str)
def test_optimizers_without_a_known_line(optimizer: Any) -> None:
    with pytest.raises(ValueError, match="no stability line is known"):
        fastbp.lr_stability(make(), X, Y, optimizer=optimizer)


def test_dampening_moves_the_line() -> None:
    plain, damped = (
        fastbp.lr_stability(make(), X, Y, optimizer=SGD(lr=0.1, momentum=0.9, dampening=d), tol=1e-6).lines[0]
        for d in (0.0, 0.5)
    )
    assert damped == pytest.approx(2 * plain, rel=1e-4)


@pytest.mark.parametrize("function", [fastbp.lr_range_test, fastbp.lr_stability])
def test_what_is_no_network(function: Any) -> None:
    with pytest.raises(TypeError, match=r"net must be a fastbp\.MLP, got str"):
        function("net", X, Y)


def test_rprop_has_no_rate_to_test() -> None:
    with pytest.raises(ValueError, match="no learning rate to test"):
        fastbp.lr_range_test(make(), X, Y, optimizer="rprop")


def test_a_journal_that_knows_more_than_halving_asked_for(tmp_path: Path) -> None:
    journal = tmp_path / "runs.jsonl"
    fastbp.lr_sweep(make(), X, Y, RATES, epochs=6, seeds=1, journal=journal)
    with_it = fastbp.lr_sweep(make(), X, Y, RATES, epochs=6, seeds=1, halving=2, journal=journal)
    without = fastbp.lr_sweep(make(), X, Y, RATES, epochs=6, seeds=1, halving=2)
    assert with_it.best_lr == without.best_lr
    assert with_it.eliminated.tolist() == without.eliminated.tolist()
    assert with_it.eliminated.any()
    assert with_it.status.tolist() == without.status.tolist()
    assert with_it.epochs_done.tolist() == without.epochs_done.tolist()
    np.testing.assert_array_equal(with_it.val_loss, without.val_loss)
    assert with_it.sensitivity is without.sensitivity is None


@pytest.mark.parametrize(
    "change", [{"epochs": 0}, {"epochs": "1"}, {"epochs": 99}, {"val_loss": [None, None]}], ids=str
)
def test_an_edited_journal_is_refused(change: dict[str, Any], tmp_path: Path) -> None:
    journal = tmp_path / "runs.jsonl"
    fastbp.lr_sweep(make(), X, Y, [0.01, 0.02, 0.03], epochs=2, seeds=1, journal=journal)
    lines = journal.read_text().splitlines()
    lines[1] = json.dumps(json.loads(lines[1]) | change)
    journal.write_text("\n".join([*lines, ""]))
    with pytest.raises(ValueError, match="line 2: this is not the record of a run"):
        fastbp.lr_sweep(make(), X, Y, [0.01, 0.02, 0.03], epochs=2, seeds=1, journal=journal)


def test_a_failing_task_takes_no_others_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, calls = runs.run_chunk, iter(range(100))

    def failing(*arguments: Any) -> Any:
        if next(calls) == 0:
            raise OSError("this machine is gone")
        return whole(*arguments)

    monkeypatch.setattr(runs, "run_chunk", failing)
    journal = tmp_path / "runs.jsonl"
    with (
        concurrent.futures.ThreadPoolExecutor(2) as pool,
        pytest.raises(OSError, match="this machine is gone"),
    ):
        fastbp.lr_sweep(make(), X, Y, RATES, epochs=3, seeds=2, journal=journal, executor=pool)
    kept = len(journal.read_text().splitlines()) - 1
    monkeypatch.undo()
    done = fastbp.lr_sweep(make(), X, Y, RATES, epochs=3, seeds=2, journal=journal)
    assert (done.status == "finished").all()
    assert kept >= 1


def test_an_interrupted_sweep_gives_no_advice() -> None:
    sweep = fastbp.lr_sweep(make(), X, Y, RATES[2:5], epochs=2, seeds=2)
    sweep.status[1:] = "open"
    sweep.__dict__.pop("comparison", None)
    assert sweep.missing == 4
    assert sweep.edge == ""
    assert "4 runs are missing: what is said is provisional" in sweep.notes[0]
    sweep.status[:] = "open"
    sweep.__dict__.pop("comparison", None)
    assert not any("smaller rates" in note for note in sweep.notes)


def test_the_stability_line_in_the_picture() -> None:
    sweep = fastbp.lr_sweep(make(), X, Y, RATES[:3], epochs=1, seeds=1)
    legend = sweep.plot(stability=0.05).axes[0].get_legend()
    assert any("0.05" in text.get_text() for text in legend.get_texts())
    with pytest.raises(ValueError, match="belongs to what='curve'"):
        sweep.plot(what="losses", stability=0.05)
    assert str(sweep).startswith("3 learning rates x 1 seed, 1 epoch, ")


@pytest.mark.parametrize("command", ["sweep", "range-test", "train"])
def test_the_data_are_not_written_over(command: str, tmp_path: Path) -> None:
    data = tmp_path / "data.csv"
    data.write_text("\n".join(["a,b,y", *(f"{a:.3f},{b:.3f},{c}" for (a, b), c in zip(X[:, :2], Y, strict=True)), ""]))
    before = data.read_bytes()
    option = "--history" if command == "train" else "--csv"
    result = CliRunner().invoke(main, [command, str(data), "--target", "y", option, str(data)])
    assert result.exit_code == 2
    assert f"DATA and {option} name the same file" in result.output
    assert data.read_bytes() == before


def test_two_files_of_one_name() -> None:
    result = CliRunner().invoke(main, ["range-test", "--plot", "a.png", "--csv", "a.png"])
    assert result.exit_code == 2
    assert "--plot and --csv name the same file" in result.output


def test_the_stability_line_from_the_command_line(tmp_path: Path) -> None:
    picture = tmp_path / "curve.png"
    arguments = ["sweep", "--lr", "1e-3:1e-2:2", "--seeds", "1", "--epochs", "1", "--hidden", "8", "--optimizer", "sgd"]
    result = CliRunner().invoke(main, [*arguments, "--stability", "--plot", str(picture)])
    assert result.exit_code == 0, result.output
    assert "unstable in full batches from lr" in " ".join(result.output.split())
    assert picture.stat().st_size > 1000
