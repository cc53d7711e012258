"""The arguments of `MLP.fit`: checked before anything is changed, and handed to the loop."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from fastbp import validation
from fastbp.data import columns, sample_weights, splits
from fastbp.engine.network import Network
from fastbp.history import History
from fastbp.spec import Samples
from fastbp.training import chunks
from fastbp.training.feeds import ArrayFeed
from fastbp.training.loop import Loop
from fastbp.training.settings import FitSettings

_VALIDATION_NAMES = "validation X", "validation y", "validation sample_weight"


def fit(
    net: Network, X: Any, y: Any, settings: FitSettings, *, validation_data: Any = None, validation_split: float = 0.0,
    sample_weight: Any = None, class_weight: Any = None,
) -> History:  # fmt: skip
    """`MLP.fit` on rows that are at hand."""
    feed, held_out = prepare(
        net, X, y, settings, validation_data=validation_data, validation_split=validation_split,
        sample_weight=sample_weight, class_weight=class_weight,
    )  # fmt: skip
    with net.session.lock:
        return Loop(net, feed, settings, held_out).run()


def prepare(
    net: Network, X: Any, y: Any, settings: FitSettings, **data: Any
) -> tuple[ArrayFeed, Samples | None]:  # fmt: skip
    """The rows to train on and those to validate on, all arguments checked; see `check`."""
    samples, held_out = check(net, X, y, settings, **data)
    kind = ArrayFeed
    if settings.optimizer.full_batch:
        from fastbp.training import lbfgs

        kind = lbfgs.FullBatchFeed
    made = kind(samples, settings.epochs, settings.batch_size, shuffle=settings.shuffle, drop_last=settings.drop_last)
    return made, held_out


def check(
    net: Network, X: Any, y: Any, settings: FitSettings, *, validation_data: Any, validation_split: float,
    sample_weight: Any, class_weight: Any, samples: Samples | None = None,
) -> tuple[Samples, Samples | None]:  # fmt: skip
    """The rows to train on, and those to validate on; what is wrong with them or with the settings is raised.

    samples: X, y and sample_weight if they have been checked, and which of the rows are meant.
    """
    session, optimizer = net.session, settings.optimizer
    session.check_optimizer(optimizer)
    if samples is None:
        samples = session.check_batch(X, y, sample_weight, scan=True)
    held_out = None
    if validation_split:
        if validation_data is not None:
            raise ValueError(f"give validation_data or validation_split={validation_split!r}, not both")
        samples, held_out = hold_out(net, samples, y, validation_split, settings)
    elif validation_data is not None:
        held_out = check_validation_data(net, validation_data)
    if held_out is None:
        settings.check_validation_is_not_needed()
    spec, rows = session.spec, samples.rows
    weights = sample_weights.apply_class_weight(class_weight, spec, y, samples.y, samples.weights, rows)
    sample_weights.check_total(weights, rows, "training rows")
    if sample_weight is not None or class_weight is not None:
        sample_weights.check_effect(weights, rows, settings.batch_size)
    if weights is not samples.weights:
        samples = samples._replace(weights=weights)
    optimizer.check_fit(samples.n_rows, settings.batch_size, settings.schedule, spec.regularization)
    if optimizer.full_batch:
        from fastbp.training import lbfgs

        lbfgs.check(settings)
        if settings.drop_last:
            raise ValueError("L-BFGS takes all rows in every step: leave drop_last out")
    return samples, held_out


def fit_chunks(
    net: Network, X: Any, settings: FitSettings, *, validation_data: Any, validation_split: float,
    steps_per_epoch: int | None, names: list[str] | None,
) -> tuple[History, list[str] | None]:  # fmt: skip
    """`MLP.fit` on rows that come in chunks; also the names of their columns, if they have any."""
    net.session.check_optimizer(settings.optimizer)
    settings.optimizer.check_step()  # chunks come one after the other: there is no full batch
    if settings.drop_last:
        raise ValueError("drop_last is for arrays; of chunks, leave out the rows of a short batch yourself")
    steps_per_epoch = chunks.check(settings.schedule, steps_per_epoch, validation_split, settings.callbacks)
    source = chunks.source_of(X, settings.epochs)
    held_out = None
    if validation_data is None:
        settings.check_validation_is_not_needed()
    else:
        X, *others = sample_weights.parts(validation_data)
        names = names or columns.names_of(X)
        held_out = check_validation_data(net, (columns.by_name(X, names, "validation_data[0]"), *others))
    with net.session.lock:
        feed = chunks.ChunkFeed(
            source, settings.epochs, settings.batch_size, shuffle=settings.shuffle, steps_per_epoch=steps_per_epoch
        )
        feed.names = names
        return Loop(net, feed, settings, held_out).run(), feed.names


def check_validation_data(net: Network, validation_data: Any) -> Samples:
    """The samples of `validation_data`."""
    parts = sample_weights.parts(validation_data)
    samples = net.session.check_batch(*parts, scan=True, names=_VALIDATION_NAMES)
    sample_weights.check_total(samples.weights, what="validation rows")
    return samples


def hold_out(
    net: Network, samples: Samples, y: Any, validation_split: float, settings: FitSettings
) -> tuple[Samples, Samples]:
    """The rows to train on and those of `validation_split`, of the same arrays."""
    fraction = validation.check_fraction("validation_split", validation_split)
    seed = net.seed if settings.saved is None else settings.saved.seed
    some, targets = samples.rows, samples.own_targets
    rows, held, rare = splits.hold_out(
        net.session.spec, net.class_labels, y if some is None else np.asarray(y)[some], targets, fraction, seed,
        in_order=not settings.shuffle,
    )  # fmt: skip
    if some is not None:
        rows, held = some[rows], some[held]
    if rare:
        warnings.warn(f"validation_split={fraction:g}: {rare}", UserWarning, stacklevel=6)
    weights = samples.weights
    sample_weights.check_total(None if weights is None else weights[held], what="held-out rows")
    return samples._replace(rows=rows), samples._replace(rows=held)
