# %% [markdown]
# # How sure may a network be?
#
# A network that is trained until it knows its rows by heart says "99 %" too often. Several networks of other seeds err
# in other places: the mean of their probabilities is more careful, and where they disagree one should be, too.

# %%
import numpy as np
from sklearn.datasets import load_breast_cancer, load_wine

import fastbp

SETS = {
    "digits": fastbp.datasets.load_digits(),
    "breast cancer": load_breast_cancer(return_X_y=True),
    "clouds": fastbp.datasets.make_classification(600, 8, 3, seed=0),  # that overlap: nobody can be sure everywhere
    "wine": load_wine(return_X_y=True),
}

# %% [markdown]
# `Ensemble` takes a network as the pattern, and trains ten of other seeds side by side. Of 20 splits of each data set:
# the log loss on the test rows, of one network and of ten together. It rates probabilities: who says 99 % and is wrong
# pays dearly. The error allows for the rows that splits share (Nadeau and Bengio 2003).

# %%
SPLITS, SIZE = 20, 10


def trained(name, seed):
    X, y = SETS[name]
    X_train, X_test, y_train, y_test = fastbp.datasets.train_test_split(X, y, 0.3, seed=seed)
    net = fastbp.MLP([X.shape[1], 64, int(y.max()) + 1], seed=seed)
    net.standardize(X_train)
    ensemble = fastbp.Ensemble(net, size=SIZE)
    ensemble.fit(X_train, y_train, epochs=40, optimizer=fastbp.Adam(0.003))
    return ensemble, X_test, y_test


print(f"log loss on test rows    one   {SIZE} together    less by")
gains = {}
for name in SETS:
    losses = []
    for seed in range(SPLITS):
        ensemble, X_test, y_test = trained(name, seed)
        one = ensemble.nets[0]  # the first member: what `net.fit` makes
        losses.append((one.evaluate(X_test, y_test)["loss"], ensemble.evaluate(X_test, y_test)["loss"]))
    alone, together = np.mean(losses, axis=0)
    less = np.subtract(*np.transpose(losses))
    gains[name] = less.mean(), less.std(ddof=1) * np.sqrt(1 / SPLITS + 0.3 / 0.7)
    print(f"{name:14} {alone:13.4f} {together:13.4f} {gains[name][0]:11.4f} +- {gains[name][1]:.4f}")

# %% [markdown]
# On three of them ten are better by more than the error of the difference. On the wines, 178 rows that are easy to tell
# apart, they agree, and nothing is gained. Calibration as a picture: one network first, then ten together.

# %%
ensemble, X_test, y_test = trained("clouds", 0)
fastbp.plots.calibration(ensemble.nets[0], X_test, y_test)

# %%
fastbp.plots.calibration(ensemble, X_test, y_test)

# %% [markdown]
# `spread` tells how far the members disagree about each row. Rows with a large spread are those to doubt:

# %%
right = ensemble.predict(X_test) == y_test
spread = ensemble.spread(X_test).max(axis=1)
order = np.argsort(spread)
for name, rows in zip(("agree", "waver", "disagree"), np.array_split(order, 3), strict=True):
    print(f"where they {name:9} {right[rows].mean():.0%} are right (spread {spread[rows].mean():.2f})")

# %%
assert all(gains[name][0] > gains[name][1] for name in ("digits", "breast cancer", "clouds"))
