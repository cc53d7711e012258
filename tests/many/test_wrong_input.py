"""What is handed to the uses of many networks by mistake: each error names the argument, the value and the mend."""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest

import fastbp
from fastbp import MLP, EarlyStopping, Ensemble, GroupModel, cross_validate, fit_groups, fit_many, losses, sweep

X, Y = fastbp.datasets.make_classification(60, 4, 3, seed=0)
BY = np.array(["a", "b", "c"])[np.arange(60) % 3]


def net(**options: Any) -> MLP:
    return MLP([4, 6, 3], seed=0, **options)


def trained(size: int = 2) -> Ensemble:
    ensemble = Ensemble(net(loss=losses.CrossEntropy(ignore_index=-1)), size)
    ensemble.fit(X, Y, epochs=1)
    return ensemble


def constant(y: Any, predicted: Any) -> float:
    return 1.0


def other(y: Any, predicted: Any) -> float:
    return 2.0


other.__name__ = constant.__name__

WRONG: list[tuple[Any, str]] = [
    (lambda: fit_many(net(), X, Y), r"nets must be a sequence .* \[net\]"),  # type: ignore[arg-type]
    (lambda: fit_many([net()], X, Y, callbacks=EarlyStopping()), r"callbacks must be a sequence.*callbacks=\[it\]"),  # type: ignore[arg-type]
    (lambda: fit_many([net(), net()], X, Y, epochs=(1, 2, 3)), "epochs has 3 entries, but there are 2"),  # type: ignore[arg-type]
    (lambda: cross_validate(net(), X, Y, callbacks=EarlyStopping()), "callbacks must be a sequence"),
    (lambda: cross_validate(net(), X, Y, folds=[]), "folds is empty"),
    (lambda: cross_validate(net(), X, Y, folds="5"), "folds must be a positive integer, got '5'"),
    (lambda: cross_validate(net(), X, Y, folds=[([0, 1, 2], [2, 3])]), r"folds\[0\] has 1 row to train and to test on"),
    (lambda: cross_validate(net(), X, Y, folds=[([0.5, 1.5], [3])]), r"folds\[0\]: rows must be numbers of rows"),
    (lambda: cross_validate(net(), X, Y, folds=[(np.ones(9, bool), [3])]), r"folds\[0\]: rows is a mask of shape"),
    (lambda: cross_validate(net(), X, Y, folds=[5, 5]), r"folds\[0\] must be a pair of row numbers.*got 5"),
    (lambda: cross_validate(net(), X, Y, groups=[None, *BY[1:]]), "groups must be numbers or texts"),
    (lambda: cross_validate(net(), X, Y, metrics=[]), "metrics is empty"),
    (lambda: cross_validate(net(), X, Y, metrics=[constant, other]), "two functions of the name 'constant'"),
    (
        lambda: cross_validate(net(), X, Y, sample_weight=np.arange(60) < 10.0, folds=[(range(30), range(30, 60))]),
        "fold 0: the weights of all rows to test on are 0",
    ),
    (lambda: sweep(net(), X, Y, {"lr": [0.1]}, validation_split=0.0), "validation_split=0 holds no rows out"),
    (
        lambda: sweep(net(), X, Y, {"lr": [0.1]}, seeds=1, epochs=1, metric=lambda y, p: None),
        "the metric <lambda> must return a number, got None",
    ),
    (lambda: trained().evaluate(X, Y[:, None]), r"y has shape \(60, 1\).*pass y\[:, 0\]"),
    (lambda: trained().evaluate(X, Y + 1), r"y\[\d+\] is 3, but labels for 3 outputs"),
    (lambda: trained().evaluate(X, Y[:-1]), "y has 59 rows, but X has 60"),
    (lambda: trained().evaluate(X, BY), "y has dtype <U1; class labels must be integers"),
    (lambda: trained().evaluate(X, Y, np.zeros(60)), "the weights of all rows are 0"),
    (lambda: fit_groups(net(), X[:0], Y[:0], by=[]), "X has 0 rows"),
    (lambda: fit_groups(net(), X, Y, by=BY[:5]), "by has 5 entries, but X has 60 rows"),
    (lambda: fit_groups(net(), X, Y, by="shop"), "by='shop' is no column of X, which is no data frame"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "says"), WRONG, ids=[re.sub(r"\W+", " ", says)[:50] for _, says in WRONG])
def test_an_error_says_what_is_wrong(call: Any, says: str) -> None:
    with pytest.raises((ValueError, TypeError), match=says):
        call()


def test_groups_are_asked_by_as_many_names_as_there_are_rows(tmp_path: Path) -> None:
    model = fit_groups(net(), X, Y, by=BY, epochs=1)
    for names in (["a"], ["a"] * 5):  # fewer have given fewer predictions
        with pytest.raises(ValueError, match=rf"by has {len(names)} entries, but X has 3 rows"):
            model.predict(X[:3], names)
    with pytest.raises(ValueError, match="no network was trained for the group 'q'"):
        model.evaluate(X, Y, ["q", *BY[1:]])
    with pytest.raises(ValueError, match="y has 3 rows, but X has 60"):
        model.evaluate(X, Y[:3], BY)
    assert fit_groups(net(), X, Y, by=["a", 1] * 30, epochs=1).groups == [1, "a"]
    assert repr(GroupModel({})) == "<fastbp.GroupModel of 0 groups>"  # what NetworksFailed has if all diverge
    net().save(tmp_path / "n.safetensors")
    with pytest.raises(ValueError, match=r"holds one network \(fastbp.load\), not networks of groups"):
        GroupModel.load(tmp_path / "n.safetensors")


def test_groups_of_an_arrow_table() -> None:
    table = pyarrow.table({**{name: X[:, k] for k, name in enumerate("uvwx")}, "shop": BY})
    found = fit_groups(net(), table, Y, by="shop", epochs=2)
    np.testing.assert_array_equal(found.predict(table), fit_groups(net(), X, Y, by=BY, epochs=2).predict(X, BY))


def test_ignored_labels_do_not_count_in_an_ensemble() -> None:
    ensemble, y = trained(), np.where(np.arange(60) < 20, -1, Y)
    assert ensemble.evaluate(X, y) == pytest.approx(ensemble.evaluate(X[20:], Y[20:]))


def test_arrays_and_tuples_are_one_each() -> None:
    histories = fit_many([net(), net()], X, Y, epochs=np.array([1, 2]), batch_size=(8, 16))  # type: ignore[arg-type]
    assert [len(one.loss) for one in histories] == [1, 2]


def test_results_are_a_line_and_travel() -> None:
    found = sweep(net(), X, Y, {"lr": [0.01, 0.1]}, seeds=1, epochs=1)
    assert repr(found).startswith("<fastbp.Sweep of 2 points x 1 seed,")
    assert "nan" not in str(found)
    again = pickle.loads(pickle.dumps(found))
    np.testing.assert_array_equal(again.refit(X, Y).weights[0], found.refit(X, Y).weights[0])
    folds = cross_validate(net(), X, Y, folds=2, epochs=1, metrics=["loss", "loss"])
    assert repr(folds).startswith("<fastbp.CrossValidation of 2 folds: loss ")
    assert pickle.loads(pickle.dumps(folds)).mean == folds.mean
