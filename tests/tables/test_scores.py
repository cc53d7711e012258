"""Scores beside scikit-learn's, with weights and without, and splits that keep what belongs together."""

from __future__ import annotations

import numpy as np
import pytest
from peers import needs
from peers import sklearn_metrics as metrics

from fastbp.tables import scores_of
from fastbp.tables.splits import split


@needs("sklearn")
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("n_classes", [2, 4])
def test_scores_of_classes(n_classes: int, weighted: bool) -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(0, n_classes, 300)
    proba = rng.dirichlet(np.ones(n_classes), 300).round(2) + 1e-3 + 0.3 * np.eye(n_classes)[y]
    proba /= proba.sum(axis=1, keepdims=True)
    weight = rng.random(300) * (rng.random(300) > 0.2) if weighted else None
    found = scores_of.of_classes(y, proba, weight, np.bincount(y) / 300)
    p = proba.argmax(axis=1)
    assert found["accuracy"] == pytest.approx(metrics.accuracy_score(y, p, sample_weight=weight))
    assert found["balanced_accuracy"] == pytest.approx(metrics.balanced_accuracy_score(y, p, sample_weight=weight))
    assert found["log_loss"] == pytest.approx(metrics.log_loss(y, proba, sample_weight=weight))
    np.testing.assert_allclose(found["confusion"], metrics.confusion_matrix(y, p, sample_weight=weight))
    of = [metrics.roc_auc_score(y == k, proba[:, k], sample_weight=weight) for k in range(n_classes)]
    assert found["auc"] == pytest.approx(of[1] if n_classes == 2 else np.mean(of))
    assert found["baseline"]["accuracy"] == pytest.approx(np.average(y == np.bincount(y).argmax(), weights=weight))


@needs("sklearn")
@pytest.mark.parametrize("weighted", [False, True])
def test_scores_of_quantities(weighted: bool) -> None:
    rng = np.random.default_rng(0)
    y = rng.normal(size=(200, 2)) * [1, 100]
    p = y + rng.normal(size=(200, 2))
    weight = rng.random(200) if weighted else None
    found = scores_of.of_quantities(y, p, weight, y.mean(axis=0))
    assert found["rmse"] == pytest.approx(metrics.root_mean_squared_error(y, p, sample_weight=weight))
    assert found["mae"] == pytest.approx(metrics.mean_absolute_error(y, p, sample_weight=weight))
    assert found["r2"] == pytest.approx(metrics.r2_score(y, p, sample_weight=weight))
    assert [one["r2"] for one in found["outputs"]] == pytest.approx(
        metrics.r2_score(y, p, sample_weight=weight, multioutput="raw_values").tolist()
    )


def test_a_class_without_rows_has_no_area() -> None:
    found = scores_of.of_classes(np.zeros(3, int), np.full((3, 2), 0.5), None, np.array([0.5, 0.5]))
    assert found["auc"] is None


def test_groups_stay_together() -> None:
    group = np.random.default_rng(0).integers(0, 40, 1000)
    kept, held = split(np.zeros(1000), 0.2, 3, stratify=False, group=group)
    assert not set(group[kept]) & set(group[held])
    assert 150 <= len(held) <= 250
    assert sorted([*kept, *held]) == list(range(1000))
    with pytest.raises(ValueError, match="one group"):
        split(np.zeros(9), 0.2, 0, stratify=False, group=np.zeros(9, int))


def test_the_last_rows_are_held_out_by_time() -> None:
    time = np.random.default_rng(0).integers(0, 50, 1000)
    kept, held = split(np.zeros(1000), 0.2, 3, stratify=False, time=time)
    assert time[kept].max() < time[held].min()
    assert 0.15 < len(held) / 1000 < 0.25
    with pytest.raises(ValueError, match="one time"):
        split(np.zeros(9), 0.2, 0, stratify=False, time=np.zeros(9))
    assert len(split(np.zeros(9), 0.2, 0, stratify=False, time=np.r_[0, np.ones(8)])[1]) == 8


def test_classes_have_their_share() -> None:
    y = np.repeat([0, 1], [900, 100])
    _, held = split(y, 0.2, 0, stratify=True)
    assert (y[held] == 1).sum() == 20
