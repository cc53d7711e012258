"""Learn to balance a pole by imitating the best tries: the cross-entropy method, by `train_step` alone.

Play many carts, keep the pushes of the best fifth, and train the network to push as they did; again and again
(Rubinstein 1999; of networks Lapan, "Deep reinforcement learning hands-on", 2018).
"""

import numpy as np
from cart_pole import MOST, play

import fastbp

SCALE = np.array([0.5, 1.0, 0.1, 1.0])  # about how far places, speeds, angles and turns reach


def learn(seed, rounds=50, carts=100):
    rng = np.random.default_rng(seed)
    net = fastbp.MLP([4, 32, 1], activation="tanh", loss="binary_cross_entropy", seed=seed)
    adam = fastbp.Adam(0.01)

    def choose(state):
        return rng.random(len(state)) < net.predict_proba(state / SCALE)

    history = []
    for _ in range(rounds):
        states, right, stood = play(choose, carts, rng)
        steps = stood.sum(axis=0)
        history.append(steps.mean())
        best = stood & (steps >= np.quantile(steps, 0.8))
        X, pushed = states[best] / SCALE, right[best].astype(int)
        for _ in range(10):  # one step of gradient descent each, on some of these pushes
            rows = rng.integers(0, len(X), 256)
            net.train_step(X[rows], pushed[rows], adam)
    return net, history


if __name__ == "__main__":
    for seed in (0, 1):
        net, history = learn(seed)

        def surely(state, net=net):
            return net.predict(state / SCALE) == 1

        steps = play(surely, 100, np.random.default_rng(1000))[2].sum(axis=0)
        line = " ".join(f"{mean:.0f}" for mean in history[::10])
        print(f"seed {seed}: stood for {line} steps; now {steps.mean():.0f} of {MOST}, at worst {steps.min()}")
        assert steps.min() >= 200
        assert steps.mean() > 475
