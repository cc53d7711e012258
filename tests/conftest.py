"""What every test may rely on."""

import signal

# A shell that starts the tests in the background has SIGINT ignored, and so would every process that tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)
