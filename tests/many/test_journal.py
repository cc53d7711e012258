"""The journal of a sweep as a file: what has changed in it is refused, older ones are gone on with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastbp import MLP, lr_sweep

RNG = np.random.default_rng(3)
X, Y = RNG.standard_normal((60, 4)), np.arange(60) % 3
OPTIONS: dict[str, Any] = {"seeds": 2, "epochs": 2}
RATES = [1e-3, 1e-2, 1e-1]


def sweep(path: Path, rates: list[float] = RATES) -> Any:
    return lr_sweep(MLP([4, 3, 3], seed=1), X, Y, rates, journal=path, **OPTIONS)


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    path = tmp_path / "sweep.jsonl"
    sweep(path)
    return path


def flipped(content: bytes, place: int, bit: int) -> bytes:
    return content[:place] + bytes([content[place] ^ (1 << bit)]) + content[place + 1 :]


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_flipped_bit_is_refused(journal: Path) -> None:
    """But for the end of the last line, which may be one that was being written when the power went."""
    whole = journal.read_bytes()
    for place in [*range(whole.index(b"\n") + 1), *range(whole.index(b"\n") + 1, len(whole) - 1, 7)]:
        journal.write_bytes(flipped(whole, place, place % 8))
        with pytest.raises(ValueError, match=r"sweep\.jsonl"):
            sweep(journal)
    journal.write_bytes(flipped(whole, len(whole) - 1, 3))
    with pytest.warns(RuntimeWarning, match="cut short"):
        sweep(journal)


@pytest.mark.parametrize(
    "change", [{"seed": 2}, {"lr": 0.01}, {"val_loss": [0.1, 0.1]}, {"status": "diverged"}, {"seconds": 9.0}], ids=str
)
def test_a_changed_value_is_refused(change: dict[str, Any], journal: Path) -> None:
    lines = journal.read_text().splitlines()
    record = json.loads(lines[1])
    assert record | change != record
    for new in (record | change, {name: one for name, one in (record | change).items() if name != "checksum"}):
        journal.write_text("\n".join([lines[0], json.dumps(new), *lines[2:], ""]))
        with pytest.raises(ValueError, match=r"sweep\.jsonl, line 2: this is not the record of a run \(its checksum"):
            sweep(journal)


def test_a_line_less_is_a_run_more(journal: Path) -> None:
    expected, lines = sweep(journal), journal.read_text().splitlines(keepends=True)
    journal.write_text("".join(lines[:2] + lines[3:]))
    again = sweep(journal)
    assert again.val_loss.tobytes() == expected.val_loss.tobytes()
    assert len(lines_of(journal)) == len(lines)


def test_a_journal_without_checksums_is_gone_on_with(journal: Path) -> None:
    """As they were written before; what is appended has them, and from there on every line needs one."""
    expected = sweep(journal, [*RATES, 0.5])
    old = [json.dumps({name: one for name, one in line.items() if name != "checksum"}) for line in lines_of(journal)]
    journal.write_text("\n".join([*old[:5], ""]))
    again = sweep(journal, [*RATES, 0.5])
    assert again.val_loss.tobytes() == expected.val_loss.tobytes()
    assert ["checksum" in line for line in lines_of(journal)] == [False] * 5 + [True] * 4
    journal.write_text(journal.read_text() + old[5] + "\n")
    with pytest.raises(ValueError, match=r"line 10: .*its checksum is missing or damaged"):
        sweep(journal, [*RATES, 0.5])


RECORDS = [
    b"[" * 100_000, b'{"lr": ' + b"[" * 900 + b"]" * 900 + b"}", b'{"lr": 1e999}', b'{"lr": []}', b"9" * 5000, b"\xff",
    b'{"lr": 0.1, "seed": -1, "status": "open", "epochs": 0, "seconds": 0, "start_loss": 0, "train_loss": [], '
    b'"val_loss": [], "epoch_seconds": []}',
    b'{"lr": 0.1, "seed": 1e999, "status": "open"}', b'{"lr": 0.1, "seed": 1, "status": ["open"], "epochs": 0}',
    b'{"lr": 0.1, "seed": 1, "status": "open", "epochs": 1e999}', b'{"lr": 0.1, "seed": 1, "status": "open"}',
    b'{"lr": 0.1, "seed": 1, "status": "open", "epochs": 1, "seconds": {}}', b"null", b"",
]  # fmt: skip


@pytest.mark.parametrize("line", RECORDS)
def test_a_line_that_makes_no_sense(line: bytes, journal: Path) -> None:
    old = [json.dumps({name: one for name, one in line.items() if name != "checksum"}) for line in lines_of(journal)]
    for place in (0, 2):
        lines = [one.encode() for one in old]
        lines[place] = line
        journal.write_bytes(b"\n".join([*lines, b""]))
        with pytest.raises(ValueError, match=r"sweep\.jsonl"):
            sweep(journal)


def test_a_nested_version_is_shown_in_part(journal: Path) -> None:
    head = lines_of(journal)[0]
    head.pop("checksum")
    text = json.dumps(head | {"instruction_set": 0}).replace(
        '"instruction_set": 0', f'"instruction_set": {"[" * 940 + "]" * 940}'
    )
    journal.write_text(text + "\n")
    with pytest.raises(ValueError, match=r"sweep\.jsonl") as caught:
        sweep(journal)
    assert len(str(caught.value)) < 1000
