"""All machine code of fastbp; imports numba, llvmlite and numpy, and nothing of fastbp outside this folder."""

import numba

if numba.config.DISABLE_JIT:
    raise ImportError(
        "NUMBA_DISABLE_JIT is set, but fastbp is machine code, which only Numba's compiler can make: unset it. To step "
        "through a training in a debugger, use fastbp.reference.NumpyMLP, the same in plain NumPy"
    )

# Every module is loaded with the first: the fingerprint of the machine code is of what is loaded.
from fastbp.kernels import build, cache, lbfgs, probe  # noqa: F401

cache.remember_code()
