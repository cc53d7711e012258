# %% [markdown]
# # At the edge of stability
#
# The cost around the present weights is nearly a bowl. Its steepest curvature is the largest eigenvalue L of the
# Hessian, and plain descent on all rows can shrink an error there only while its learning rate is below 2 / L.
# `lr_stability` measures L, without ever forming the Hessian.

# %%
import numpy as np

import fastbp

# Twenty points of a wavy curve, the Chebyshev polynomial of degree 5, as in Cohen et al. (2021).
X = np.linspace(-1, 1, 20).reshape(-1, 1)
y = np.cos(5 * np.arccos(X))
net = fastbp.MLP([1, 64, 64, 1], activation="tanh", loss="mse", seed=0)
net.standardize(X, y)
start = fastbp.lr_stability(net, X, y, optimizer="sgd")
start

# %% [markdown]
# One might think: below that line all is well. But descent moves the weights to where the bowl is steeper, until 2 / L
# meets the learning rate, whatever it is. There it stays, at the edge, and the cost goes on falling: one of the
# stranger things that gradient descent does.

# %%
ROUNDS, RATES = 16, (0.01, 0.02, 0.04)
sharpness = {lr: [] for lr in RATES}
for lr in RATES:
    one, descent = net.copy(), fastbp.SGD(lr)
    for _ in range(ROUNDS):
        sharpness[lr].append(fastbp.lr_stability(one, X, y, optimizer=descent, tol=0.01).eigenvalues[0])
        one.fit(X, y, epochs=round(40 / lr), batch_size=len(X), optimizer=descent)
    cells = " ".join(f"{lr * L / 2:4.2f}" for L in sharpness[lr][::3])
    print(f"lr {lr}: lr L / 2 goes {cells}, and the cost to {one.history.loss[-1]:.4f}")

# %% [markdown]
# 1 is the edge. The smaller the rate, the steeper the place where it settles.

# %%
import matplotlib.pyplot as plt

figure, axes = plt.subplots(figsize=(7, 4))
for lr, found in sharpness.items():
    (line,) = axes.plot(range(ROUNDS), found, "o-", label=f"lr {lr}")
    axes.axhline(2 / lr, color=line.get_color(), linestyle="--", linewidth=1)
axes.set(xlabel="steps, in units of 40 / lr", ylabel="L, and 2 / lr dashed")
axes.legend()
plt.show()

# %%
assert all(0.8 < lr * np.median(found[ROUNDS // 2 :]) / 2 < 1.3 for lr, found in sharpness.items())
