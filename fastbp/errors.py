"""The exceptions of fastbp beyond ValueError and TypeError."""

from __future__ import annotations

from typing import Any


class DivergenceError(RuntimeError):
    """The cost became infinite or NaN: gradient descent has jumped over the minimum.

    Attributes
    ----------
    epoch, step : int
        Where it happened: epoch (from 0) and step within all steps of this network (from 0).
    lr : float or None
        The learning rate of that step; None for L-BFGS, which has none.
    history : History
        The epochs that were finished before.
    scaled : bool
        The network standardises its data already.
    best_epoch : int or None
        The epoch (from 1) whose weights `EarlyStopping` has put back; None where the network has its last finite ones.
    """

    best_epoch: int | None = None

    def __init__(self, epoch: int, step: int, lr: float | None, history: Any, scaled: bool = False) -> None:
        self.epoch, self.step, self.lr, self.history, self.scaled = epoch, step, lr, history, scaled
        super().__init__(epoch, step, lr, history, scaled)

    def place(self) -> str:
        """Where it happened, and with what rate."""
        rate = "" if self.lr is None else f", with lr={self.lr:g}"
        return f"epoch {self.epoch}, step {self.step}{rate}"

    def advice(
        self, rate: str = "learning rate", standardize: str = "net.standardize", optimizer: str = "optimizer"
    ) -> str:
        """What may help, by names of the caller's."""
        smaller = None if self.lr is None else f"try a smaller {rate}"
        scaling = None if self.scaled else f"scale the data by {standardize}"
        return ", or ".join(filter(None, [smaller, scaling])) or f"try another {optimizer}"

    def __str__(self) -> str:
        weights = "last finite" if self.best_epoch is None else f"best (epoch {self.best_epoch})"
        return f"the loss is not finite at {self.place()}: {self.advice()}; the network has its {weights} weights"


class NetworksFailed(RuntimeError):
    """Some of many networks could not be trained to their end; all others were.

    Attributes
    ----------
    errors : dict of int to Exception
        By the number of the network: a `DivergenceError`, most of the time.
    result : list of History
        Of all networks; of those that failed, as far as they came.
    """

    def __init__(self, text: str, errors: dict[int, Exception], result: Any) -> None:
        self.text, self.errors, self.result = text, errors, result
        super().__init__(text, errors, result)

    def __str__(self) -> str:
        return self.text


class SweepInterrupted(KeyboardInterrupt):
    """Ctrl-C while many networks train, in a sweep or side by side: what had finished by then is kept.

    Attributes
    ----------
    result : object
        What the function would have returned, of the finished runs: an `LrSweep` in which the others are "open", the
        list of histories of `fit_many`, in which theirs are None.
    """

    def __init__(self, text: str, result: Any) -> None:
        self.text, self.result = text, result
        super().__init__(text, result)  # all of them, for what comes out of another process is made anew

    def __str__(self) -> str:
        return self.text
