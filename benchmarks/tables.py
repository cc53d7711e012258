"""fastbp's tables beside RealMLP-TD-S, scikit-learn's MLP and gradient boosting: 40 public tables, 5 splits each.

    pip install -e ".[tables]"
    python benchmarks/tables.py

Writes docs/reference/tables.md. Every model of a split has the same rows to train on (64 %), to choose its best
epoch (16 %) and to be tested on (20 %), and the same threads.
"""

from __future__ import annotations

import json
import os
import sys
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.progress import track

sys.path.insert(0, str(Path(__file__).parent))
import table_rivals
from table_data import CLASSES, TABLES

SHARE = 0.2


def run(name: str, model: str, split: int, threads: int, folder: str | None) -> dict[str, Any]:
    """One model on one split of one table: its error beside the trivial one's, and the time of fit and predict."""
    from sklearn.model_selection import train_test_split

    table = next(one for one in TABLES if one.name == name)
    frame = table.load(None if folder is None else Path(folder))

    def halves(rows: Any, seed: int) -> list[Any]:
        classes = rows[table.target] if table.kind == CLASSES else None
        return train_test_split(rows, test_size=SHARE, random_state=seed, stratify=classes)

    rest, test = halves(frame, split)
    train, validation = halves(rest, 100 + split)
    parts = [part.reset_index(drop=True) for part in (train, validation, test)]
    task = table_rivals.Task(*parts, table.target, table.kind, split, threads)
    begin = time.perf_counter()
    answer = table_rivals.MODELS[model](task)
    seconds = time.perf_counter() - begin
    result = {"table": name, "kind": table.kind, "model": model, "split": split, "seconds": seconds, "rows": len(frame)}
    y = parts[2][table.target].to_numpy()
    if table.kind == CLASSES:
        most = rest[table.target].value_counts().index[0]
        places = np.searchsorted(answer.classes, y) if _ordered(answer.classes) else [
            list(answer.classes).index(one) for one in y
        ]  # fmt: skip
        chances = np.clip(answer.proba[np.arange(len(y)), places], 1e-15, 1.0)
        return result | {
            "error": float(np.mean(answer.predicted != y)), "trivial": float(np.mean(y != most)),
            "log_loss": float(-np.log(chances).mean()),
        }  # fmt: skip
    trivial = float(np.sqrt(np.mean((y - rest[table.target].mean()) ** 2)))
    return result | {"error": float(np.sqrt(np.mean((y - answer.predicted) ** 2))), "trivial": trivial}


def _ordered(classes: Any) -> bool:
    return bool((np.asarray(classes)[:-1] < np.asarray(classes)[1:]).all())


def _begin(threads: int) -> None:
    """What a process does before it is measured: import and compile."""
    warnings.filterwarnings("ignore")
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = str(threads)


def _job(arguments: tuple[Any, ...]) -> dict[str, Any] | None:
    name, model, _split, threads, folder = arguments
    if model not in _WARM:
        _WARM.add(model)
        small = {"classes": "wine", "quantities": "diabetes"}
        for kind in small.values():
            run(kind, model, 99, threads, folder)
    try:
        return run(*arguments)
    except Exception as error:
        print(f"{name}, {model}: {type(error).__name__}: {str(error)[:300]}", file=sys.stderr, flush=True)
        return None


_WARM: set[str] = set()


@click.command()
@click.option("--models", default=",".join(table_rivals.MODELS), help="Names, with commas between.")
@click.option("--tables", default="", help="Names, with commas between; by default all.")
@click.option("--splits", default=5, show_default=True)
@click.option("--first", default=0, show_default=True, help="Seed of the first split.")
@click.option("--jobs", default=1, show_default=True, help="Processes at a time.")
@click.option("--threads", default=1, show_default=True, help="Of each model.")
@click.option("--data", type=click.Path(file_okay=False), help="A folder of Parquet files that --export wrote.")
@click.option("--export", type=click.Path(file_okay=False), help="Write the tables there, and no more.")
@click.option("--json", "as_json", type=click.Path(dir_okay=False), help="Keep the results, and add to those there.")
@click.option("--page", type=click.Path(dir_okay=False), help="Write the results' page: docs/reference/tables.md.")
@click.option("--seconds", default=0.0, help="Begin nothing after so long.")
def main(
    models: str, tables: str, splits: int, first: int, jobs: int, threads: int, data: str | None, export: str | None,
    as_json: str | None, page: str | None, seconds: float,
) -> None:  # fmt: skip
    """Measure, and write the page."""
    if export is not None:
        from table_data import export as write

        write(Path(export))
        return
    chosen = [one for one in TABLES if not tables or one.name in tables.split(",")]
    results = json.loads(Path(as_json).read_text()) if as_json and Path(as_json).exists() else []
    done = {(one["table"], one["model"], one["split"]) for one in results}
    wanted = [
        (table.name, model, split, threads, data)
        for split in range(first, first + splits)
        for model in models.split(",")
        for table in chosen
        if model and (table.name, model, split) not in done
    ]
    _begin(threads)
    results += [one for one in _measured(wanted, jobs, threads, seconds) if one is not None]
    if as_json:
        Path(as_json).write_text(json.dumps(results))
    from table_page import text, write_page

    print(text(results))
    if page:
        write_page(Path(page), results, threads, jobs)


def _measured(wanted: list[tuple[Any, ...]], jobs: int, threads: int, seconds: float) -> list[Any]:
    import multiprocessing

    end = time.monotonic() + seconds if seconds else float("inf")
    found: list[Any] = []
    if jobs == 1:
        for one in track(wanted, "tables", transient=True):
            if time.monotonic() < end:
                found.append(_job(one))
        return found
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, context, _begin, (threads,)) as pool:
        futures = [pool.submit(_job, one) for one in wanted]
        for future in futures:
            try:
                found.append(future.result(timeout=max(end - time.monotonic(), 0.01)))
            except TimeoutError:
                future.cancel()
        if seconds:
            for process in list(pool._processes.values()):
                process.kill()
    return found


if __name__ == "__main__":
    main()
