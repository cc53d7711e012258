"""One small network for each of 1,000 sensors, trained side by side in one call."""

import time

import numpy as np

import fastbp

# Each sensor has a curve of its own: phase, width, height. 200 readings of each, in any order.
rng = np.random.default_rng(0)
SENSORS, READINGS = 1000, 200
phase, height = rng.uniform(0, 6, SENSORS), rng.uniform(1, 3, SENSORS)


def measure(sensor, X):
    return height[sensor] * np.sin(X[:, 0] + phase[sensor]) + 0.5 * X[:, 1] + 0.1 * rng.standard_normal(len(X))


sensor = rng.permutation(np.repeat(np.arange(SENSORS), READINGS))
X = rng.uniform(-2, 2, (len(sensor), 2)).astype(np.float32)
y = measure(sensor, X)

net = fastbp.MLP([2, 16, 1], activation="tanh", loss="mse", seed=0)  # what they are like
net.standardize(X, y)  # each network will do it by the rows of its own sensor
begun = time.perf_counter()
model = fastbp.fit_groups(net, X, y, by=sensor, epochs=50, optimizer=fastbp.Adam(0.02))
seconds = time.perf_counter() - begun
print(f"{len(model):,} networks of {net.n_parameters} parameters, {len(y):,} rows, 50 epochs: {seconds:.1f} s")

# Predictions go by group: the network of its sensor answers for each row.
new = rng.integers(0, SENSORS, 5000)
X_new = rng.uniform(-2, 2, (len(new), 2)).astype(np.float32)
error = np.sqrt(np.mean((model.predict(X_new, by=new) - measure(new, X_new)) ** 2))
print(f"new readings: off by {error:.2f} (root mean square), of which 0.10 is noise")

# One network for all sensors, that does not know which is which, can only say their mean.
whole = fastbp.MLP([2, 16, 1], activation="tanh", loss="mse", seed=0)
whole.standardize(X, y)
whole.fit(X, y, epochs=2, optimizer=fastbp.Adam(0.02))
blind = np.sqrt(np.mean((whole.predict(X_new) - measure(new, X_new)) ** 2))
print(f"one network for all of them: off by {blind:.2f}")

# All in one file; a sensor that there was none of is an error that names it.
model.save("sensors.safetensors")
again = fastbp.GroupModel.load("sensors.safetensors")
try:
    again.predict(X_new[:1], by=[1234])
except ValueError as unknown:
    print(unknown)

assert error < 0.2 < 1 < blind
