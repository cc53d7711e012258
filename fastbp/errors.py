"""The exceptions of fastbp beyond ValueError and TypeError."""

from __future__ import annotations

from typing import Any


class DivergenceError(RuntimeError):
    """The cost became infinite or NaN: gradient descent has jumped over the minimum.

    Attributes
    ----------
    epoch, step : int
        Where it happened: epoch (from 0) and step within all steps of this network (from 0).
    lr : float
        The learning rate of that step.
    history : History
        The epochs that were finished before.
    """

    def __init__(self, epoch: int, step: int, lr: float, history: Any) -> None:
        self.epoch, self.step, self.lr, self.history = epoch, step, lr, history
        super().__init__(epoch, step, lr, history)

    def __str__(self) -> str:
        return (
            f"the loss is not finite at epoch {self.epoch}, step {self.step}, with lr={self.lr:g}: "
            "try a smaller learning rate, or scale the inputs; the network keeps its last finite weights"
        )


class SweepInterrupted(KeyboardInterrupt):
    """Ctrl-C in a learning-rate sweep: what had finished by then is kept.

    Attributes
    ----------
    result : LrSweep
        Of the finished runs; the others are "open" in it.
    """

    def __init__(self, text: str, result: Any) -> None:
        self.text, self.result = text, result
        super().__init__(text, result)  # all of them, for what comes out of another process is made anew

    def __str__(self) -> str:
        return self.text
