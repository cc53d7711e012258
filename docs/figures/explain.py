"""Write the outputs into docs/how-to/explain.md: of the command, and of the Python.

python docs/figures/explain.py
"""

from __future__ import annotations

import re
from pathlib import Path

import pages

import fastbp

PAGE = Path(__file__).parents[1] / "how-to" / "explain.md"


def main() -> None:
    """Both outputs."""
    text = PAGE.read_text(encoding="utf-8")
    command = f"$ fastbp explain\n```\n\n```text\n{fastbp.explain()}\n```"
    text = re.sub(r"\$ fastbp explain\n```\n\n```text\n.*?```", lambda _: command, text, count=1, flags=re.DOTALL)
    _, printed = pages.run(text, PAGE.name)
    PAGE.write_text(pages.filled(text, printed), encoding="utf-8")
    print(f"wrote {PAGE}")


if __name__ == "__main__":
    main()
