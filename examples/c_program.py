"""A network within a program in C: written as one C file, compiled, run, and held against Python."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np

import fastbp

X, y = fastbp.datasets.load_digits()
net = fastbp.MLP([64, 32, 10], seed=0)
net.fit(X, y, epochs=20, optimizer=fastbp.Adam(0.01))
net.to_c("digits.c", name="digits")  # C99 without dependencies: weights, scaling and softmax are in it

# The program reads rows of pixels, and says the class of each, with its probability.
Path("main.c").write_text("""
#include <stdio.h>
#include "digits.c"

int main(void) {
    float x[64], p[10];
    for (;;) {
        for (int k = 0; k < 64; k++)
            if (scanf("%f", &x[k]) != 1) return 0;
        digits_probabilities(x, p);
        int c = digits_class(x);
        printf("%d %.6f\\n", c, p[c]);
    }
}
""")
compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
if compiler is None:
    sys.exit("a compiler of C is needed: install gcc or clang")
subprocess.run([compiler, "-std=c99", "-O2", "-o", "classify", "main.c", "-lm"], check=True)

rows = "\n".join(" ".join(map(str, row)) for row in X)
done = subprocess.run(["./classify"], input=rows, capture_output=True, text=True, check=True)
said = np.array([line.split() for line in done.stdout.splitlines()], float)

p = net.predict_proba(X)
apart = np.abs(said[:, 1] - p.max(axis=1)).max()
print(f"{Path('digits.c').stat().st_size:,} bytes of C, {Path('classify').stat().st_size:,} of program")
print(f"{len(X):,} rows: {int((said[:, 0] == net.predict(X)).sum()):,} classes as in Python")
print(f"probabilities differ by less than 0.00001: {apart < 1e-5}")

assert (said[:, 0] == net.predict(X)).all()
assert apart < 1e-5
