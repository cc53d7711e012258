# %% [markdown]
# # Find the learning rate, then train with it
#
# Gradient descent has one number that decides over all: the learning rate. Too small, and it crawls; too large, and it
# jumps over the minimum. A sweep tries many, with several seeds each, and says how sure its answer is.

# %%
import fastbp

X, y = fastbp.datasets.load_digits()
X_train, X_test, y_train, y_test = fastbp.datasets.train_test_split(X, y, 0.2, seed=0)
net = fastbp.MLP([64, 64, 10], activation="tanh", seed=0)

# %% [markdown]
# Nine rates with five seeds each are 45 trainings, all side by side. Each holds a fifth of its rows out to be judged
# by, so the test rows stay unseen. SGD is choosier about its rate than Adam is.

# %%
rates = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0]
sweep = fastbp.lr_sweep(net, X_train, y_train, rates, optimizer=fastbp.SGD(momentum=0.9))
print(f"recommended: {sweep.recommended_lr:g}")
sweep

# %% [markdown]
# The picture has both failures in it: to the left the loss is high after the same epochs, to the right runs diverge.
# Three networks, trained on all rows and tested, show what that means:

# %%
chosen = {"too small": 0.001, "recommended": sweep.recommended_lr, "too large": 10.0}
nets = [net.copy() for _ in chosen]
rules = [fastbp.SGD(lr, momentum=0.9) for lr in chosen.values()]
fastbp.fit_many(nets, X_train, y_train, epochs=10, optimizer=rules)

accuracy = {name: one.evaluate(X_test, y_test)["accuracy"] for name, one in zip(chosen, nets, strict=True)}
for name, share in accuracy.items():
    print(f"{name:12} lr {chosen[name]:<6g} {share:6.1%} right on the test rows")

# %%
assert accuracy["recommended"] > 0.95 > max(accuracy["too small"], accuracy["too large"])
