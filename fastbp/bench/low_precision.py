"""Rivals that multiply in bfloat16: fastbp itself, and PyTorch under `autocast`, whose weights are float32 too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastbp.bench.peers import TorchRival
from fastbp.bench.rivals import FastbpRival, Rival
from fastbp.bench.workloads import Workload
from fastbp.engine import precisions


class FastbpBfloat16(FastbpRival):
    """`fastbp.MLP.fit(precision="bfloat16")`."""

    name = "fastbp, bfloat16"
    precision = precisions.BFLOAT16

    def __init__(self) -> None:
        super().__init__(fit={"precision": self.precision})

    def unsupported(self, workload: Workload) -> str | None:
        return _only_single(workload)


class TorchAutocast(TorchRival):
    """The same loop as PyTorch's in float32, forward pass and loss under ``torch.autocast("cpu", torch.bfloat16)``."""

    name = "torch, autocast"
    precision = precisions.BFLOAT16

    def unsupported(self, workload: Workload) -> str | None:
        return _only_single(workload) or super().unsupported(workload)

    def reset(self) -> None:
        super().reset()
        torch, model, loss = self.torch, self.model, self.loss

        def forward(X: Any) -> Any:
            with torch.autocast("cpu", torch.bfloat16):
                return model(X)

        self.model, self.loss = forward, lambda z, y: loss(z.float(), y)


def _only_single(workload: Workload) -> str | None:
    return None if workload.dtype == "float32" else f"is for float32 networks, not {workload.dtype}"


def beside(precision: str, peers: list[str]) -> list[Callable[[], Rival]]:
    """What trains in a precision beside the rivals in float32."""
    if precision == precisions.FLOAT32:
        return []
    return [FastbpBfloat16, *([TorchAutocast] if "torch" in peers else [])]
