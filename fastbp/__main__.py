"""`python -m fastbp` is the command line."""

from fastbp.cli.main import main

main(prog_name="fastbp")
