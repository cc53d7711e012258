"""The benchmark command from a source tree: `python bench.py` is `fastbp bench`."""

from fastbp.bench.command import bench

if __name__ == "__main__":
    bench(prog_name="bench.py")
