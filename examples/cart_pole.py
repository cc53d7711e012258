"""A pole on a cart, in NumPy: many carts at once, with the physics and the limits of Gymnasium's CartPole-v1.

Barto, Sutton and Anderson, "Neuronlike adaptive elements that can solve difficult learning control problems", 1983.
"""

import numpy as np

GRAVITY, CART, POLE, HALF_LENGTH, PUSH, SECONDS = 9.8, 1.0, 0.1, 0.5, 10.0, 0.02
MOST = 500  # steps of an episode


def begin(n, rng):
    """States of n carts, (n, 4): place, speed, angle of the pole, and how fast it turns; all nearly at rest."""
    return rng.uniform(-0.05, 0.05, (n, 4))


def push(state, right):
    """The states one step later, (n, 4), where carts are pushed to the right or to the left."""
    place, speed, angle, turn = state.T
    force = np.where(right, PUSH, -PUSH)
    whole = (force + POLE * HALF_LENGTH * turn**2 * np.sin(angle)) / (CART + POLE)
    turning = (GRAVITY * np.sin(angle) - np.cos(angle) * whole) / (
        HALF_LENGTH * (4 / 3 - POLE * np.cos(angle) ** 2 / (CART + POLE))
    )
    pulling = whole - POLE * HALF_LENGTH * turning * np.cos(angle) / (CART + POLE)
    return np.stack(
        [place + SECONDS * speed, speed + SECONDS * pulling, angle + SECONDS * turn, turn + SECONDS * turning], 1
    )


def upright(state):
    """Whether a cart is on its track, and its pole within 12 degrees of upright."""
    return (abs(state[:, 0]) < 2.4) & (abs(state[:, 2]) < np.radians(12))


def play(choose, n, rng):
    """Let n carts run, each until it falls or has stood for 500 steps.

    choose(states) says for each cart whether to push right. Returns states (steps, n, 4), pushes (steps, n), and
    whether each cart still stood before a push, (steps, n): their sum over the steps is how long it has stood.
    """
    state, alive = begin(n, rng), np.ones(n, bool)
    states, pushes, stood = [], [], []
    for _ in range(MOST):
        right = choose(state)
        states.append(state)
        pushes.append(right)
        stood.append(alive)
        state = push(state, right)
        alive = alive & upright(state)
        if not alive.any():
            break
    return np.array(states), np.array(pushes), np.array(stood)
