"""The benchmark: one table of workloads, one timing protocol, every rival checked before it is timed."""

from fastbp.bench.runner import run
from fastbp.bench.workloads import WORKLOADS, Workload

__all__ = ["WORKLOADS", "Workload", "run"]
