"""What threads write and others touch in a step, counted from the addresses and the shares of every phase."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from fastbp import MLP
from fastbp.engine.placement import Placement
from fastbp.engine.traffic import barriers, crossing_lines, most_layers
from fastbp.kernels.targets import TARGET
from fastbp.kernels.tuning import MAX_RUN, NEAR_BYTES

LINE = 64


class Touches:
    """The lines that each thread reads and writes in one step of a network: a model of `kernels/run.py`.

    Only memory that more than one thread may touch is listed; rows are (address, bytes from row to row).
    """

    grain = LINE

    def __init__(self, net: MLP, batch: int, placement: Placement) -> None:
        engine, self.layout = net.session.engine, net.session.layout
        engine.prepare(batch, placement.threads, whole=True, parts=placement.parts)
        assert engine.buffers is not None
        engine.buffers.point(engine.parameters)
        self.layers, self.job = engine.buffers.records, engine.job[0]
        self.batch, (self.threads, self.columns, self.parts) = batch, placement
        self.peers = self.threads // self.parts
        self.item, self.lanes = self.layout.dtype.itemsize, self.layout.lanes
        self.vector, self.wide = TARGET.vector_bytes, 2 * self.layout.lanes
        self.reads: list[set[int]] = [set() for _ in range(self.threads)]
        self.writes: list[set[int]] = [set() for _ in range(self.threads)]
        for thread in range(self.threads):
            self.step(thread)

    def crossing(self) -> int:
        """Lines that a thread writes and another touches, of all threads."""
        total = 0
        for thread, written in enumerate(self.writes):
            others = [self.reads[u] | self.writes[u] for u in range(self.threads) if u != thread]
            total += len(written.intersection(set().union(*others)))
        return total

    # --- ranges ---------------------------------------------------------------------------------------------

    def lines(self, start: int, size: int) -> range:
        return range(start // self.grain, (start + size - 1) // self.grain + 1) if size else range(0)

    def box(self, start: int, row: int, rows: tuple[int, int], size: int) -> Iterator[int]:
        """Lines of `size` bytes in each of some rows."""
        for r in range(*rows):
            yield from self.lines(start + r * row, size)

    def share(self, n: int, part: int, parts: int) -> tuple[int, int]:
        return n * part // parts, n * (part + 1) // parts

    def padded(self, n: int) -> int:
        return -(-n // self.lanes) * self.vector

    def own_panels(self, n_out: int, part: int) -> tuple[int, int]:
        """A panel narrower than a line would share it with another part."""
        panels, group = -(-n_out // self.wide), max(1, LINE // (2 * self.vector))
        first, end = self.share(-(-panels // group), part, self.parts)
        return min(first * group, panels), min(end * group, panels)

    def panel(self, layer: Any, number: int) -> tuple[int, int]:
        """(address, bytes a row) of a panel of weights."""
        n_in, n_out = int(layer["n_in"]), int(layer["n_out"])
        vectors = min(2, self.padded(n_out) // self.vector - 2 * number)
        return int(layer["weights"]) + number * 2 * self.vector * (n_in + 1), vectors * self.vector

    # --- a step ---------------------------------------------------------------------------------------------

    def step(self, thread: int) -> None:
        part, peer = divmod(thread, self.peers)
        for k in range(self.columns):
            self.forward_columns(thread, k, part, peer)
            self.barrier(thread)
        index = peer * self.parts + part if self.columns else thread
        self.pass_rows(thread, self.share(self.batch, index, self.threads))
        self.barrier(thread)
        for k in range(self.columns, 0, -1):
            self.backward_columns(thread, k, part, peer)
            if self.columns > 1 or self.parts < self.threads:
                self.barrier(thread)
        skip = 0
        if self.columns:
            for k in range(self.columns + 1):
                self.region(thread, k, part, peer)
            skip = self.columns + 1
        blocks = [(k, n) for k in range(skip, len(self.layers)) for n in range(self.layout.layers[k].n_blocks)]
        first, end = self.share(len(blocks), thread, self.threads)
        for k, n in blocks[first:end]:
            layer = self.layers[k]
            shape = -(-int(layer["n_out"]) // self.wide), -(-int(layer["n_in"]) // self.wide)
            self.update(thread, layer, *self.block_at(*shape, n), int(layer["inputs"]))

    def barrier(self, thread: int) -> None:
        """A thread comes to a barrier."""

    def product(self, thread: int, panel: int, panel_row: int, n: int, k: int) -> None:
        """The lines that a product prefetches; what it reads besides is its caller's."""
        if k * n * self.item <= NEAR_BYTES:
            return
        for column in range(0, n, self.wide):
            vectors = 2 if n - column > self.lanes else 1
            ahead = min(2, -(-max(0, n - column - vectors * self.lanes) // self.lanes)) * k * self.vector
            start = panel + (column // self.wide) * 2 * self.vector * panel_row + panel_row * vectors * self.vector
            self.reads[thread].update(self.lines(start, ahead))

    def weights_of(self, thread: int, layer: Any, panels: tuple[int, int]) -> None:
        """Read some panels as a product does."""
        n_in, first = int(layer["n_in"]), panels[0] * self.wide
        for number in range(*panels):
            start, row = self.panel(layer, number)
            self.reads[thread].update(self.lines(start, (n_in + 1) * row))
        if panels[1] > panels[0]:
            n = min(panels[1] * self.wide, int(layer["n_out"])) - first
            self.product(thread, self.panel(layer, panels[0])[0], n_in + 1, n, n_in)

    def transposed_of(self, thread: int, layer: Any, panels: tuple[int, int]) -> None:
        """Read some panels of transposed weights, which run over the inputs."""
        k_rows, n_in = self.padded(int(layer["n_out"])) // self.item, int(layer["n_in"])
        start = int(layer["transposed"]) + panels[0] * self.wide * k_rows * self.item
        width = min(panels[1] * 2 * self.vector, self.padded(n_in)) - panels[0] * 2 * self.vector
        self.reads[thread].update(self.lines(start, max(0, width) * k_rows))
        if width > 0:
            n = min(panels[1] * self.wide, n_in) - panels[0] * self.wide
            self.product(thread, start, k_rows, n, int(layer["n_out"]))

    def forward_columns(self, thread: int, k: int, part: int, peer: int) -> None:
        layer, rows = self.layers[k], self.share(self.batch, peer, self.peers)
        row, panels = int(layer["input_row"]), self.own_panels(int(layer["n_out"]), part)
        if k == 0:
            area = int(self.job["areas"]) + part * int(self.job["area_size"])
            self.writes[thread].update(self.box(area, row, rows, int(layer["n_in"]) * self.item))
        else:
            self.reads[thread].update(self.box(int(layer["inputs"]), row, rows, int(layer["n_in"]) * self.item))
        self.weights_of(thread, layer, panels)
        self.columns_of(thread, layer, rows, panels, self.writes[thread], "outputs", "deltas")

    def columns_of(
        self, thread: int, layer: Any, rows: tuple[int, int], panels: tuple[int, int], into: set[int], *names: str
    ) -> None:
        first = panels[0] * 2 * self.vector
        size = max(0, min(panels[1] * 2 * self.vector, self.padded(int(layer["n_out"]))) - first)
        for name in names:
            into.update(self.box(int(layer[name]) + first, int(layer["output_row"]), rows, size))

    def pass_rows(self, thread: int, rows: tuple[int, int]) -> None:
        reads, writes = self.reads[thread], self.writes[thread]
        for k in range(self.columns, len(self.layers)):
            layer = self.layers[k]
            size, row = int(layer["n_in"]) * self.item, int(layer["input_row"])
            (reads if k else writes).update(self.box(int(layer["inputs"]), row, rows, size))
            self.weights_of(thread, layer, (0, -(-int(layer["n_out"]) // self.wide)))
            self.columns_of(thread, layer, rows, (0, 1 << 20), writes, "outputs", "deltas")
        for k in range(len(self.layers) - 1, self.columns, -1):
            self.transposed_of(thread, self.layers[k], (0, -(-int(self.layers[k]["n_in"]) // self.wide)))
        writes.update(self.lines(int(self.job["row_losses"]) + rows[0] * self.item, (rows[1] - rows[0]) * self.item))
        if thread == 0 and self.grain == LINE:  # which adds up the losses, after a barrier
            reads.update(self.lines(int(self.job["row_losses"]), self.batch * self.item))

    def backward_columns(self, thread: int, k: int, part: int, peer: int) -> None:
        layer, below, rows = self.layers[k], self.layers[k - 1], self.share(self.batch, peer, self.peers)
        panels = self.own_panels(int(below["n_out"]), part)
        self.columns_of(thread, layer, rows, (0, 1 << 20), self.reads[thread], "deltas")
        self.transposed_of(thread, layer, panels)
        self.columns_of(thread, below, rows, panels, self.writes[thread], "deltas")

    @staticmethod
    def block_at(panels: int, blocks: int, local: int) -> tuple[int, int]:
        band, rest = divmod(local, MAX_RUN * panels)
        panel, place = divmod(rest, min(MAX_RUN, blocks - band * MAX_RUN))
        return panel, band * MAX_RUN + place

    def region(self, thread: int, k: int, part: int, peer: int) -> None:
        layer = self.layers[k]
        panels, blocks = (0, -(-int(layer["n_out"]) // self.wide)), (0, -(-int(layer["n_in"]) // self.wide))
        if k < self.columns:
            panels = self.own_panels(int(layer["n_out"]), part)
        else:
            blocks = self.own_panels(int(layer["n_in"]), part)
        shape = panels[1] - panels[0], blocks[1] - blocks[0]
        inputs = int(layer["inputs"]) if k else int(self.job["areas"]) + part * int(self.job["area_size"])
        for n in range(*self.share(shape[0] * shape[1], peer, self.peers)):
            panel, block = self.block_at(*shape, n)
            self.update(thread, layer, panels[0] + panel, blocks[0] + block, inputs)

    def update(self, thread: int, layer: Any, panel: int, block: int, inputs: int) -> None:
        """Gradient and update of one weight block."""
        reads, writes, rows = self.reads[thread], self.writes[thread], (0, self.batch)
        n_in, first = int(layer["n_in"]), block * self.wide
        n = min(self.wide, n_in - first)
        start, row = self.panel(layer, panel)
        reads.update(self.box(inputs + first * self.item, int(layer["input_row"]), rows, n * self.item))
        self.columns_of(thread, layer, rows, (panel, panel + 1), reads, "deltas")
        writes.update(self.lines(start + first * row, (n + (first + n == n_in)) * row))
        if layer["transposed"]:
            k_rows = self.padded(int(layer["n_out"])) // self.item
            width = min(2 * self.vector, self.padded(n_in) - block * 2 * self.vector)
            target = int(layer["transposed"]) + block * 2 * self.vector * k_rows
            units = panel * self.wide, panel * self.wide + row // self.item
            writes.update(self.box(target, width, units, n * self.item))


class Phases(Touches):
    """The same number by number, and from barrier to barrier; without what is prefetched."""

    grain = 4

    def __init__(self, net: MLP, batch: int, placement: Placement) -> None:
        self.found: dict[int, list[tuple[set[int], set[int]]]] = {}
        super().__init__(net, batch, placement)

    def step(self, thread: int) -> None:
        super().step(thread)
        self.barrier(thread)

    def barrier(self, thread: int) -> None:
        self.found.setdefault(thread, []).append((self.reads[thread], self.writes[thread]))
        self.reads[thread], self.writes[thread] = set(), set()

    def product(self, thread: int, panel: int, panel_row: int, n: int, k: int) -> None:
        pass

    def races(self) -> list[tuple[int, int, int]]:
        """(phase, thread, another): what the one writes between two barriers, the other touches."""
        return [
            (phase, one, other)
            for one, phases in self.found.items()
            for phase, (_, written) in enumerate(phases)
            for other in self.found
            if other != one and not written.isdisjoint(set.union(*self.found[other][phase]))
        ]


NETWORKS: dict[str, tuple[list[int], int, str]] = {
    "mnist": ([784, 128, 10], 128, "float32"),
    "deep": ([784, 256, 128, 10], 128, "float32"),
    "sigmoid": ([100, 300, 100, 10], 200, "float32"),
    "regression": ([512, 1000, 1], 64, "float64"),
}
PLACEMENTS = [(2, 0, 1), (2, 1, 2), (4, 0, 1), (4, 1, 4), (4, 1, 2), (2, 2, 2), (4, 2, 4), (6, 2, 3)]


def touches(name: str, placement: tuple[int, int, int]) -> Touches:
    sizes, batch, dtype = NETWORKS[name]
    return Touches(MLP(sizes, dtype=dtype, loss="mse", seed=0), batch, Placement(*placement))


CASES = [(name, each) for name in NETWORKS for each in PLACEMENTS if each[1] < len(NETWORKS[name][0]) - 1]


@pytest.mark.parametrize(("name", "placement"), CASES)
def test_the_estimate_is_what_the_addresses_say(name: str, placement: tuple[int, int, int]) -> None:
    found = touches(name, placement)
    assert placement[1] <= most_layers(found.layout)
    estimate = crossing_lines(found.layout, found.batch, Placement(*placement))
    assert estimate == pytest.approx(found.crossing(), rel=0.2, abs=60)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("placement", [*PLACEMENTS, (3, 1, 3), (5, 3, 5), (8, 3, 4), (12, 2, 6), (9, 1, 3), (2, 3, 2)])
def test_no_thread_writes_what_another_touches_between_two_barriers(
    placement: tuple[int, int, int], dtype: str
) -> None:
    net = MLP([37, 70, 133, 40, 5], dtype=dtype, seed=0)
    for batch in (1, 3, 17):
        found = Phases(net, batch, Placement(*placement))
        assert {len(phases) for phases in found.found.values()} == {barriers(Placement(*placement))}
        assert not found.races()


def test_a_missing_barrier_is_a_race(monkeypatch: pytest.MonkeyPatch) -> None:
    barrier, net = Phases.barrier, MLP([37, 70, 133, 40, 5], seed=0)
    for placement in ((2, 0, 1), (2, 1, 2), (4, 1, 2), (4, 2, 4)):
        for left_out in range(barriers(Placement(*placement)) - 1):

            def some(self: Phases, thread: int, left_out: int = left_out) -> None:
                self.count = getattr(self, "count", {})  # type: ignore[attr-defined]
                number = self.count[thread] = self.count.get(thread, -1) + 1  # type: ignore[attr-defined]
                if number != left_out:
                    barrier(self, thread)

            monkeypatch.setattr(Phases, "barrier", some)
            assert Phases(net, 17, Placement(*placement)).races(), (placement, left_out)


def test_columns_of_mnist_move_few_lines() -> None:
    """By rows nearly every weight crosses, and half of the gathered rows; by columns what is small does."""
    rows, columns = touches("mnist", (2, 0, 1)).crossing(), touches("mnist", (2, 1, 2)).crossing()
    assert rows > 10_000
    assert columns < 1_500


def test_more_threads_move_more() -> None:
    layout = MLP([784, 128, 10], seed=0).session.layout
    lines = [crossing_lines(layout, 128, Placement(n)) for n in (1, 2, 4, 8)]
    assert lines == sorted(lines)
    assert lines[0] == 0.0


def test_barriers() -> None:
    assert [barriers(Placement(*each)) for each in [(1,), (2,), (2, 1, 2), (4, 1, 2), (4, 2, 2), (4, 3, 4)]] == [
        0,
        2,
        3,
        4,
        6,
        8,
    ]


def test_neighbours_share_no_line_of_their_rows() -> None:
    """Whatever two parts write of activations and deltas of layers by columns, they write to different lines."""
    for name, (_, _, dtype) in NETWORKS.items():
        found = touches(name, (4, 1, 4))
        layer, seen = found.layers[0], np.zeros(0, int)
        for part in range(4):
            mine: set[int] = set()
            panels = found.own_panels(int(layer["n_out"]), part)
            found.columns_of(part, layer, (0, found.batch), panels, mine, "outputs", "deltas")
            mine_array = np.array(sorted(mine), int)
            assert not np.intersect1d(seen, mine_array).size, (name, dtype)
            seen = np.concatenate([seen, mine_array])
