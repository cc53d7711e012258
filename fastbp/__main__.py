"""`python -m fastbp` is the command line."""

from fastbp.cli import main

main(prog_name="fastbp")
