"""The command: run some parts of the attack, or all, for some minutes each, and print what they have done."""

from __future__ import annotations

import argparse
import importlib
import os
import pkgutil
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # what tests share: guarded, processes

import tests.attack as package

PARTS = sorted(module.name for module in pkgutil.iter_modules(package.__path__) if not module.name.startswith("_"))


def run(part: str, seconds: float, seed: int) -> dict[str, int]:
    """Attack by one part; returns its counts."""
    return dict(importlib.import_module(f"tests.attack.{part}").run(seconds, seed))


def main() -> None:
    """See ``python -m tests.attack --help``."""
    titles = {part: str(importlib.import_module(f"tests.attack.{part}").__doc__).splitlines()[0] for part in PARTS}
    parser = argparse.ArgumentParser(
        prog="python -m tests.attack", description="Attack fastbp; the first fault ends it with a traceback.",
        epilog="\n".join(f"{part:12} {title}" for part, title in titles.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("parts", nargs="*", metavar="part", help="by default all of them, one after the other")
    parser.add_argument("--minutes", type=float, default=1.0, help="of each part (default: 1)")
    parser.add_argument("--seed", type=int, default=0, help="another seed attacks elsewhere (default: 0)")
    options = parser.parse_args()
    for part in options.parts:
        if part not in PARTS:
            parser.error(f"there is no part {part!r}; choose from {', '.join(PARTS)}")
    os.environ.setdefault("FASTBP_WATCHDOG", "60")  # a thread that waits for ever is a fault, and told
    for part in options.parts or PARTS:
        started = time.monotonic()
        counts = run(part, 60.0 * options.minutes, options.seed)
        done = ", ".join(f"{count:,} {name}" for name, count in counts.items())
        print(f"{part}: {done}, no fault, in {time.monotonic() - started:.0f} s", flush=True)


if __name__ == "__main__":
    main()
