"""The benchmark command from a source tree: `python bench.py` is `fastbp bench`."""

import sys

from fastbp.cli.main import main

if __name__ == "__main__":
    main(["bench", *sys.argv[1:]], prog_name="fastbp")
