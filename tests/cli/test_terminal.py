"""What a person sees: no line wider than 80 columns, none cut, in a terminal and piped; --quiet; examples that run."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner, Result

import fastbp
from fastbp.cli.main import COMMANDS, main

WIDTH = 80
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def assert_fits(text: str, said: str) -> None:
    """Nothing is wider than the screen, and nothing cut (rich cuts with an ellipsis)."""
    for line in re.split(r"[\r\n]+", ESCAPES.sub("", text)):
        assert len(line) <= WIDTH, f"{said}: {line}"
        assert "…" not in line, f"{said}: {line}"


def in_terminal(command: list[str], folder: Path) -> tuple[int, str]:
    """Run a command in a terminal of 80 columns; returns its exit code and all that it shows."""
    import fcntl
    import pty
    import struct
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, WIDTH, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    environment |= {
        "PYTHONPATH": os.pathsep.join(sys.path),
        "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
    }
    shown = b""
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, cwd=folder, env=environment) as process:
        os.close(theirs)
        with contextlib.suppress(OSError):  # how Linux says that the other end is closed
            while part := os.read(ours, 65536):
                shown += part
    os.close(ours)
    return process.returncode, shown.decode(errors="replace")


def examples(name: str) -> list[str]:
    """The lines of the example at the end of a command's help."""
    _, found, text = CliRunner().invoke(main, [name, "--help"]).output.partition("Example:\n")
    assert found, f"fastbp {name} --help has no example"
    return [line.strip() for line in text.splitlines() if line.strip()]


@pytest.mark.skipif(sys.platform == "win32", reason="no terminals of this kind")
@pytest.mark.parametrize("name", COMMANDS)
def test_the_example_of_the_help_runs_as_typed(name: str, tmp_path: Path) -> None:
    """In an empty folder and a terminal of 80 columns; what it shows fits."""
    (tmp_path / "bin").mkdir()
    for program, module in (("fastbp", "-m fastbp"), ("python", "")):
        path = tmp_path / "bin" / program
        path.write_text(f'#!/bin/sh\nexec {sys.executable} {module} "$@"\n')
        path.chmod(0o755)
    lines = examples(name)
    assert any(line.startswith(f"fastbp {name}") for line in lines)
    code, shown = in_terminal(["sh", "-ec", "\n".join(lines)], tmp_path)
    assert code == 0, shown
    assert_fits(shown, name)


# --- piped --------------------------------------------------------------------------------------------------


def run(*arguments: object, **env: str) -> Result:
    return CliRunner().invoke(main, [str(one) for one in arguments], env=env)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tables with long names, and models of them."""
    path = tmp_path_factory.mktemp("data")
    X, y = fastbp.datasets.load_digits()
    np.savez(path / "digits.npz", X=X, y=y)
    rows = [
        f"customer of the {('northern', 'southern')[k % 2]} branch {k % 7},{k % 13 / 3},{k % 2 + k / 9}"
        for k in range(200)
    ]
    names = "a column with a name that is rather long,another column with a long name"
    (path / "shop.csv").write_text("\n".join([f"{names},price of the whole thing", *rows, ""]))
    data = (path / "shop.csv", "--target", "price of the whole thing", "--epochs", 2)
    assert run("train", *data, "--out", path / "shop.safetensors").exit_code == 0
    assert run("train", "--epochs", 1, "--compare", "none", "--out", path / "digits.safetensors").exit_code == 0
    return path


SHOP = ("shop.csv", "--target", "price of the whole thing")
CASES = [
    ((), 0),
    *[((name, "--help"), 0) for name in COMMANDS],
    (("info",), 0),
    (("info", "shop.safetensors"), 0),
    (("info", "digits.safetensors"), 0),
    (("warmup",), 0),
    (("train", "--epochs", 2, "--early-stopping", 1, "--optimizer", "adamw", "--weight-decay", 0.02, "--clip-norm", 1,
      "--label-smoothing", 0.1, "--dropout", 0.1, "--schedule", "cosine"), 0),
    (("train", "--epochs", 1, "--compare", "numpy"), 0),
    (("train", *SHOP, "--epochs", 2), 0),
    (("evaluate", "shop.safetensors", "shop.csv"), 0),
    (("evaluate", "digits.safetensors", "digits.npz"), 0),
    (("predict", "shop.safetensors", "shop.csv", "-o", "out.csv"), 0),
    (("explain",), 0),
    (("explain", "shop.safetensors", "shop.csv", "--row", 3), 0),
    (("explain", "digits.safetensors", "digits.npz", "--optimizer", "adam"), 0),
    (("explain", "shop.safetensors"), 2),
    (("sweep", "--lr", "1e-3:30:80", "--seeds", 1, "--epochs", 12, "--hidden", 4, "--stability"), 0),
    (("sweep", *SHOP, "--lr", "1e-3:1e5:4", "--seeds", 2, "--epochs", 1, "--hidden", 4), 0),
    (("range-test", "--steps", 40, "--seeds", 2), 0),
    (("range-test", *SHOP, "--steps", 40, "--seeds", 2), 0),
    (("train", "--ensemble", 2, "--epochs", 2), 0),
    (("train", *SHOP, "--ensemble", 2, "--epochs", 2), 0),
    (("train", "--cross-validate", 3, "--epochs", 2, "--early-stopping", 1), 0),
    (("train", *SHOP, "--cross-validate", 2, "--epochs", 2), 0),
    (("train", *SHOP, "--by", "a column with a name that is rather long", "--epochs", 2), 0),
    (("sweep", "--over", "lr=1e-3:1e-1:5", "--over", "batch_size=32,64,128", "--over", "hidden=8,8-8", "--over",
      "activation=relu,tanh", "--seeds", 2, "--epochs", 1, "--metric", "balanced_accuracy"), 0),
    (("sweep", *SHOP, "--over", "weight_decay=0:0.1:3", "--over", "optimizer=adamw,sgd", "--seeds", 1,
      "--epochs", 1), 0),
    (("train", "shop.csv"), 2),
    (("train", "shop.csv", "--target", "none of the columns that there are"), 1),
    (("train", "none.csv", "--target", "y"), 1),
    (("train", "--optimizer", "none"), 2),
    (("trian",), 2),
]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "code"), CASES, ids=lambda one: " ".join(map(str, one[:3])) if isinstance(one, tuple) else ""
)
def test_nothing_piped_is_wider_or_cut(
    arguments: tuple[object, ...], code: int, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    done = run(*arguments, COLUMNS=str(WIDTH))
    assert done.exit_code == (2 if not arguments else code), done.output
    assert done.stdout or done.stderr
    assert_fits(done.stdout + done.stderr, str(arguments))


def test_a_wide_screen_is_used(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also by the tables of sweeps, whose last column is the first to be wrapped."""
    monkeypatch.chdir(folder)
    arguments = "sweep", "--lr", "0.01,1000", "--seeds", 1, "--epochs", 1, "--hidden", 4
    narrow, wide = (run(*arguments, COLUMNS=str(width)).stdout.splitlines() for width in (WIDTH, 200))
    assert max(map(len, narrow)) <= WIDTH < max(map(len, wide)) <= 200
    assert any(line.startswith("(vs best: ") or "Adam(" in line for line in wide if len(line) > WIDTH)
    assert len(wide) < len(narrow)


def test_a_failure_is_one_line_in_a_log_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.delenv("COLUMNS", raising=False)
    done = run("train", "shop.csv", "--target", "none of the columns that there are")
    assert done.stderr.count("\n") == 1
    assert len(done.stderr) > WIDTH


def test_a_benchmark_fits(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of documents, which need no measuring, and a profile."""
    monkeypatch.setenv("COLUMNS", str(WIDTH))
    old = Path(__file__).parents[1] / "old" / "bench.json"
    for more in (["--show", old], ["--show", old, "--against", old], ["--profile", "--workload", "tiny"]):
        done = run("bench", *more)
        assert done.exit_code == 0, done.output
        assert_fits(done.stdout, "bench")


# --- quiet --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "first"),
    [
        (("train", "--epochs", 1, "--compare", "none"), "trained"),
        (("train", *SHOP, "--epochs", 2), "trained"),
        (("sweep", "--lr", "0.003,0.01", "--seeds", 1, "--epochs", 1, "--hidden", 4), "2 learning rates"),
        (("sweep", "--over", "lr=0.003,0.01", "--seeds", 1, "--epochs", 1, "--hidden", 4), "2 points"),
        (("train", "--cross-validate", 2, "--epochs", 1, "--hidden", 4), "trained"),
        (("range-test", "--steps", 40, "--seeds", 1), "suggestion"),
        (("warmup", "--dtype", "float32"), ""),
        (("predict", "shop.safetensors", "shop.csv", "-o", "out.csv"), ""),
    ],
    ids=lambda one: one[0] if isinstance(one, tuple) else "",
)
def test_quiet_leaves_the_result_alone(
    arguments: tuple[object, ...], first: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    loud, quiet = run(*arguments), run(*arguments, "--quiet")
    assert (loud.exit_code, quiet.exit_code) == (0, 0), quiet.output
    assert quiet.stdout.startswith(first)
    assert len(quiet.stdout) < len(loud.stdout)
    assert "note" not in quiet.stdout


def test_quiet_is_for_the_commands_that_print_more_than_results() -> None:
    having = {
        name for name in COMMANDS
        if any("--quiet" in option.opts for option in main.get_command(click.Context(main), name).params)  # type: ignore[union-attr]
    }  # fmt: skip
    assert having == set(COMMANDS) - {"evaluate", "explain", "export", "info"}


# --- pictures and completion --------------------------------------------------------------------------------


def test_pictures_of_the_command_line(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    for number, arguments in enumerate([
        ("train", "--epochs", 2, "--compare", "none"), ("train", *SHOP, "--epochs", 2),
        ("evaluate", "shop.safetensors", "shop.csv"), ("evaluate", "digits.safetensors", "digits.npz"),
        ("info", "shop.safetensors"), ("info", "digits.safetensors"),
    ]):  # fmt: skip
        path = tmp_path / f"{number}.png"
        done = run(*arguments, "--plot", path)
        assert done.exit_code == 0, done.output
        assert path.read_bytes()[:4] == b"\x89PNG"
    assert run("info", "--plot", tmp_path / "a.png").exit_code == 2
    assert "must end in .png" in run("train", "--plot", tmp_path / "a.txt").stderr


@pytest.mark.parametrize(("typed", "offered"), [("fastbp ra", "range-test"), ("fastbp train --sch", "--schedule"),
                                                ("fastbp train --schedule cos", "cosine")])  # fmt: skip
def test_the_shell_completes(typed: str, offered: str) -> None:
    """By click's own protocol, as the README says to switch it on."""
    words = {"COMP_WORDS": typed, "COMP_CWORD": str(typed.count(" ")), "_FASTBP_COMPLETE": "bash_complete"}
    done = CliRunner().invoke(main, [], env=words, prog_name="fastbp")
    assert f"plain,{offered}" in done.stdout.splitlines()
    source = CliRunner().invoke(main, [], env={"_FASTBP_COMPLETE": "zsh_source"}, prog_name="fastbp")
    assert "compdef" in source.stdout
