"""Learn to balance a pole by policy gradient: a cost that fastbp does not know, by `backprop(output_gradient=...)`.

REINFORCE (Williams 1992) with a baseline that is learned, too, by `train_step`.
"""

import numpy as np
from cart_pole import MOST, play

import fastbp

DISCOUNT = 0.99
SCALE = np.array([0.5, 1.0, 0.1, 1.0])  # about how far places, speeds, angles and turns reach


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def returns(stood):
    """From every step on, what is still to come: 1 for each step upright, later ones count less."""
    coming = np.zeros(stood.shape)
    total = np.zeros(stood.shape[1])
    for step in reversed(range(len(stood))):
        coming[step] = total = stood[step] + DISCOUNT * total
    return coming


def learn(seed, rounds=60, carts=32):
    rng = np.random.default_rng(seed)
    policy = fastbp.MLP([4, 32, 1], activation="tanh", loss="binary_cross_entropy", seed=seed)  # chance to push right
    critic = fastbp.MLP([4, 32, 1], activation="tanh", loss="mse", seed=seed)  # what a state is worth
    walk, follow = fastbp.Adam(0.01), fastbp.Adam(0.01)

    def choose(state):
        return rng.random(len(state)) < sigmoid(policy.forward(state / SCALE)[:, 0])

    history = []
    for _ in range(rounds):
        states, right, stood = play(choose, carts, rng)
        history.append(stood.sum(axis=0).mean())
        X, right, worth = states[stood] / SCALE, right[stood], returns(stood)[stood] * (1 - DISCOUNT)
        # What came out better than expected was a good push: by so much its chance shall rise.
        advantage = worth - critic.predict(X)
        advantage /= advantage.std() + 1e-8
        # J = -mean(advantage * log p(push)), and d log p(push) / dz = push - sigmoid(z). This is all that
        # backpropagation needs to know of the cost.
        dz = -advantage * (right - sigmoid(policy.forward(X)[:, 0])) / len(X)
        walk.update(policy, policy.backprop(X, output_gradient=dz[:, None]))
        for _ in range(5):
            critic.train_step(X, worth, follow)
    return policy, history


if __name__ == "__main__":
    for seed in (0, 1, 2):
        policy, history = learn(seed)

        def surely(state, policy=policy):
            return policy.forward(state / SCALE)[:, 0] > 0

        steps = play(surely, 100, np.random.default_rng(1000))[2].sum(axis=0)  # in 100 new tries
        line = " ".join(f"{mean:.0f}" for mean in history[::10])
        print(f"seed {seed}: stood for {line} steps; now {steps.mean():.0f} of {MOST}, at worst {steps.min()}")
        assert steps.min() >= 200
        assert steps.mean() > 475  # from which on Gymnasium calls it solved
