"""What every test may rely on."""

import contextlib
import os
import signal

# A shell that starts the tests in the background has SIGINT ignored, and so would every process that tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

# A thread that waits for ever ends a test with an error, and not the whole run by its time limit.
os.environ.setdefault("FASTBP_WATCHDOG", "60")

with contextlib.suppress(ImportError):
    import torch

    torch.set_num_threads(1)  # of batches so small that its threads would only wait for each other, and for ours
    torch.backends.mkldnn.set_flags(False)  # whose gelu of large numbers is NaN on AVX-512
