"""What threads exchange in a step: cache lines that one writes and another touches, and barriers."""

from __future__ import annotations

from fastbp.engine import tuning
from fastbp.engine.layout import Layout
from fastbp.engine.placement import Placement
from fastbp.engine.threads import MOST as MOST_THREADS
from fastbp.kernels.team import ARRIVALS, CALL_BARRIERS, LAYER_BARRIERS, STEP_BARRIERS

LINE = 64
# Layers by columns: more would need more barriers a step than `fastbp.kernels.team` can count in a call.
MOST_LAYERS = 4
_MOST_BARRIERS = CALL_BARRIERS + (STEP_BARRIERS + LAYER_BARRIERS * MOST_LAYERS) * tuning.MAX_STEPS
assert _MOST_BARRIERS * MOST_THREADS <= ARRIVALS


def most_layers(layout: Layout) -> int:
    """Layers of a network that can be by columns: the last one is always by rows."""
    return min(MOST_LAYERS, len(layout.layers) - 1)


def barriers(placement: Placement) -> int:
    """Barriers of a step, see `fastbp.kernels.columns`."""
    if placement.threads == 1:
        return 0
    threads, layers, parts = placement
    return 2 + layers + (layers if layers > 1 or parts < threads else 0)


def crossing_lines(layout: Layout, batch: int, placement: Placement) -> float:
    """Cache lines that one thread writes and another reads or writes in a step of training, of all threads.

    From sizes and shares, with what is small beside weights, activations and deltas left out; that it is what the
    kernels do, `tests/engine/test_traffic.py` shows by the addresses of every phase. Moments never cross: blocks of
    weights stay with their threads.

    Those of them that pass between parts are the lines of `Placement(parts, layers, parts)`.
    """
    threads, columns, parts = placement
    if threads == 1:
        return 0.0
    item = layout.dtype.itemsize
    other = 1.0 - 1.0 / threads  # the chance that one thread is not another
    other_part, peers = 1.0 - 1.0 / parts, threads // parts
    other_peer = 1.0 - 1.0 / peers
    among_peers = float(peers > 1)
    lines = 0.0
    for k, layer in enumerate(layout.layers):
        weights, transposed = layer.size * item / LINE, (layer.transposed_size if k else 0) * item / LINE
        inputs = batch * layout.stride(layer.n_in) * item / LINE
        deltas = batch * layout.stride(layer.n_out) * item / LINE
        spread = 1.0 if layer.n_blocks * threads > layout.n_blocks else other  # over more than one thread
        if k < columns:
            lines += weights * among_peers + transposed * (among_peers or other_part)
            # The gathered rows stay within a part; activations go to all parts.
            lines += inputs if k else parts * inputs * other_peer
            lines += deltas if k else deltas * among_peers
        elif k == columns and columns:
            lines += weights + transposed * among_peers + deltas
            lines += inputs * (1.0 - (1.0 - other_part) * (1.0 - other_peer))
        else:
            lines += weights + transposed + inputs * other + deltas * spread
    return lines
