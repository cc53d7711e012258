"""All machine code of fastbp; imports numba, llvmlite and numpy, and nothing of fastbp outside this folder."""
