"""Read handwritten digits: train a network, ask it, and see what it mistakes."""

import numpy as np

import fastbp

X, y = fastbp.datasets.load_digits()  # 1,797 images of 8 x 8 pixels, from 0 to 1
X_train, X_test, y_train, y_test = fastbp.datasets.train_test_split(X, y, 0.2, seed=0)

# 64 pixels in, ten classes out. The seed decides all that is drawn, so a second run gives the same bits.
net = fastbp.MLP([64, 128, 10], seed=0)
net.fit(X_train, y_train, epochs=30, optimizer=fastbp.Adam(0.003))

scores = net.evaluate(X_test, y_test)
print(f"right on {scores['accuracy']:.1%} of {len(X_test)} images that it has never seen")

# A picture that it got wrong, with what it took it for, and how sure it was.
p = net.predict_proba(X_test)
wrong = np.flatnonzero(p.argmax(axis=1) != y_test)
one = wrong[np.argmin(p[wrong].max(axis=1))]
print(f"of its {len(wrong)} mistakes, the one that it was least sure of: a {y_test[one]}, with the probabilities")
print("  " + ", ".join(f"{digit}: {p[one, digit]:.0%}" for digit in np.argsort(-p[one])[:3]))
for line in X_test[one].reshape(8, 8):
    print("  " + "".join(" .:*#"[round(4 * pixel)] * 2 for pixel in line))

assert scores["accuracy"] > 0.96
