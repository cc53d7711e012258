"""What learns tables beside fastbp, from the rows to train on and those that choose the best epoch."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from table_data import CLASSES

ROUNDS, PATIENCE = 1000, 50  # of boosting: trees at most, and those without a better score that end it


@dataclass
class Task:
    """Rows of one split."""

    train: pd.DataFrame
    validation: pd.DataFrame
    test: pd.DataFrame
    target: str
    kind: str
    seed: int
    threads: int

    @property
    def features(self) -> list[str]:
        return [name for name in self.train.columns if name != self.target]

    @property
    def text(self) -> list[str]:
        return [name for name in self.features if not pd.api.types.is_numeric_dtype(self.train[name])]


@dataclass
class Answer:
    """Predictions of the test rows; of classes their chances too, ``(n, n_classes)``, in the order of `classes`."""

    predicted: Any
    proba: Any = None
    classes: Any = None


def fastbp(task: Task, **arguments: Any) -> Answer:
    import fastbp

    numeric = () if task.kind == CLASSES else (task.target,)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of categories that only the test rows have
        model = fastbp.TableModel(seed=task.seed, threads=task.threads, numeric=numeric, **arguments)
        model.fit(task.train, target=task.target, validation_data=task.validation)
        test = task.test[task.features]
        if task.kind != CLASSES:
            return Answer(model.predict(test))
        proba = model.predict_proba(test)
    classes = np.array([str(one) for one in model.classes])
    return Answer(classes[proba.argmax(axis=1)], proba, classes)


def realmlp(task: Task) -> Answer:
    """RealMLP-TD-S of pytabkit; it takes no missing numbers: medians, with a column that marks them, as fastbp has."""
    from pytabkit import RealMLP_TD_S_Classifier, RealMLP_TD_S_Regressor

    frames = [part[task.features].copy() for part in (task.train, task.validation, task.test)]
    for name in task.features:
        if name in task.text:
            for frame in frames:
                frame[name] = frame[name].astype(object).where(frame[name].notna(), "missing").astype(str)
            continue
        median, gaps = task.train[name].median(), task.train[name].isna().any()
        for frame in frames:
            if gaps:
                frame[f"{name} missing"] = frame[name].isna().astype(float)
            frame[name] = frame[name].fillna(median).astype(float)
    kind = RealMLP_TD_S_Classifier if task.kind == CLASSES else RealMLP_TD_S_Regressor
    model = kind(device="cpu", random_state=task.seed, n_threads=task.threads, verbosity=0)
    y = [part[task.target].to_numpy() for part in (task.train, task.validation)]
    if task.kind != CLASSES:
        y = [values.astype(np.float64) for values in y]
    X = pd.concat(frames[:2], ignore_index=True)
    held = np.arange(len(frames[0]), len(X))
    model.fit(X, np.concatenate(y), val_idxs=held, cat_col_names=task.text)
    if task.kind != CLASSES:
        return Answer(np.asarray(model.predict(frames[2])).ravel())
    proba = model.predict_proba(frames[2])
    return Answer(model.classes_[proba.argmax(axis=1)], proba, model.classes_)


def sklearn_mlp(task: Task) -> Answer:
    """Its defaults, on all rows: it needs none to choose an epoch."""
    from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.impute import SimpleImputer
    from sklearn.neural_network import MLPClassifier, MLPRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    numbers = make_pipeline(SimpleImputer(strategy="median", add_indicator=True), StandardScaler())
    numeric = [name for name in task.features if name not in task.text]
    columns = ColumnTransformer([
        ("numbers", numbers, numeric), ("text", OneHotEncoder(handle_unknown="ignore"), task.text),
    ])  # fmt: skip
    rows = pd.concat([task.train, task.validation], ignore_index=True)
    test = task.test
    for frame in (rows, test):
        frame[task.text] = frame[task.text].astype(object).where(frame[task.text].notna(), "missing")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        if task.kind == CLASSES:
            model = make_pipeline(columns, MLPClassifier(random_state=task.seed))
            model.fit(rows[task.features], rows[task.target])
            proba = model.predict_proba(test[task.features])
            return Answer(model.classes_[proba.argmax(axis=1)], proba, model.classes_)
        inner = make_pipeline(columns, MLPRegressor(random_state=task.seed))
        model = TransformedTargetRegressor(inner, transformer=StandardScaler())
        model.fit(rows[task.features], rows[task.target])
        return Answer(model.predict(test[task.features]))


def _categories(task: Task) -> tuple[list[pd.DataFrame], list[Any]]:
    """Frames with text as pandas' categories, and targets."""
    frames = [part[task.features].copy() for part in (task.train, task.validation, task.test)]
    for name in task.text:
        levels = pd.Index(frames[0][name].dropna().unique())[:250]
        for frame in frames:
            frame[name] = pd.Categorical(frame[name].where(frame[name].isin(levels)), categories=levels)
    for frame in frames:
        frame.columns = [f"c{k}" for k in range(frame.shape[1])]  # LightGBM refuses some signs in names
    return frames, [part[task.target].to_numpy() for part in (task.train, task.validation)]


def hist_boosting(task: Task) -> Answer:
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    (X, X_val, X_test), (y, y_val) = _categories(task)
    kind = HistGradientBoostingClassifier if task.kind == CLASSES else HistGradientBoostingRegressor
    model = kind(max_iter=ROUNDS, early_stopping=True, n_iter_no_change=PATIENCE, random_state=task.seed)
    model.fit(X, y, X_val=X_val, y_val=y_val)
    proba = model.predict_proba(X_test) if task.kind == CLASSES else None
    return Answer(model.predict(X_test), proba, getattr(model, "classes_", None))


def lightgbm(task: Task) -> Answer:
    from lightgbm import LGBMClassifier, LGBMRegressor, early_stopping

    (X, X_val, X_test), (y, y_val) = _categories(task)
    kind = LGBMClassifier if task.kind == CLASSES else LGBMRegressor
    model = kind(n_estimators=ROUNDS, random_state=task.seed, n_jobs=task.threads, verbose=-1)
    model.fit(X, y, eval_set=[(X_val, y_val)], callbacks=[early_stopping(PATIENCE, verbose=False)])
    proba = model.predict_proba(X_test) if task.kind == CLASSES else None
    return Answer(model.predict(X_test), proba, getattr(model, "classes_", None))


MODELS: dict[str, Callable[[Task], Answer]] = {
    "fastbp": fastbp, "RealMLP-TD-S": realmlp, "sklearn MLP": sklearn_mlp, "HistGradientBoosting": hist_boosting,
    "LightGBM": lightgbm,
}  # fmt: skip
