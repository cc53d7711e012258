"""The engine of a network: its memory, its threads, and the calls of the compiled code on them."""
