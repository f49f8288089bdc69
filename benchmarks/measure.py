"""Measure one contender with one model, in this process; `run.py` starts one for each pair.

    python benchmarks/measure.py time CONTENDER MODEL REPEAT FILE WAY...
    python benchmarks/measure.py memory CONTENDER MODEL 0 FILE WAY...

Figures of memory are only right in the environment that `run.py` sets for them. Each way's figures
are added to FILE, as a line of JSON, as soon as they are there: what a crash comes after is not
lost.
"""

from __future__ import annotations

import gc
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import memory
from contenders import CONTENDERS, AbsentError
from models import build, variables
from ways import WAYS, Case, Way

KINDS = ("time", "memory")
SLOW = 2.0  # seconds from which on five repetitions have to do


def measure(
    kind: str, contender: str, model: str, repeat: int, ways: list[str]
) -> Iterator[dict[str, Any]]:
    """Yield what is known of the model, then the figures of each way: of one kind."""
    chosen = CONTENDERS[contender]
    chosen.prepare()
    built, inputs = build(model)
    sizes = [variable.numpy().nbytes for variable in variables(built)]
    yield {"weights": sum(sizes), "variables": len(sizes)}
    subject = chosen.subject(built)
    answer = chosen.answer(subject, inputs)
    # What stands from here on is not looked at again by the collector, which runs before each
    # repetition: that would take longer than most of what is measured.
    gc.collect()
    gc.freeze()
    found: dict[str, Any] = {}
    for name in sorted(ways, key=_place):
        with tempfile.TemporaryDirectory() as folder:
            case = Case(chosen, subject, inputs, answer, Path(folder))
            twin = chosen.twins.get(name)
            if twin in found:
                found[name] = {**found[twin], "same_as": twin}
            else:
                way = WAYS[name]
                reader = found.get(way.checked_by, {})
                check = reader.get("check") or reader.get("error")
                found[name] = _figures_or_reason(kind, way, case, repeat, check)
        yield {"way": name, **found[name]}


def _place(way: str) -> int:
    """Return when a way's turn is."""
    if way == "dumps":
        # Its bytes grow as they are written. Where a large model has been loaded and dropped
        # before, glibc moves them instead, which makes any contender half as slow again.
        return 0
    # What reads before what writes, since it checks both.
    return 2 if WAYS[way].checked_by else 1


def _figures_or_reason(
    kind: str, way: Way, case: Case, repeat: int, check: str | None
) -> dict[str, Any]:
    try:
        return _times(way, case, repeat, check) if kind == "time" else _growth(way, case)
    except AbsentError:
        return {"absent": True}
    except Exception as error:
        return {"error": reason(error).replace(str(case.folder), "FOLDER")}


def _times(way: Way, case: Case, repeat: int, check: str | None) -> dict[str, Any]:
    operation = way.prepare(case)
    result, seconds = _timed(operation)
    if seconds > SLOW:
        repeat = min(repeat, 5)
    size = _size(result)
    del result
    times = []
    for _ in range(repeat):
        _remove_file(way, case)
        gc.collect()
        # What it returns is freed outside the timing.
        times.append(_timed(operation)[1])
    if not check:
        _remove_file(way, case)
        check = _check(way, case, operation())
    return {"seconds": times, "bytes": size, "check": check}


def _check(way: Way, case: Case, result: Any) -> str:
    try:
        return "right" if way.is_right(case, result) else "differs"
    except Exception as error:
        return reason(error)


def _growth(way: Way, case: Case) -> dict[str, Any]:
    operation = way.prepare(case)
    operation()  # what is imported or remembered at the first use does not count
    _remove_file(way, case)
    return {"memory": memory.grown(operation)[1]}


def _timed(operation: Any) -> tuple[Any, float]:
    start = time.perf_counter()
    result = operation()
    return result, time.perf_counter() - start


def _remove_file(way: Way, case: Case) -> None:
    if way.writes_file:
        case.path.unlink(missing_ok=True)


def _size(result: Any) -> int | None:
    """Return how large is what was written, or None if nothing was."""
    if isinstance(result, bytes):
        return len(result)
    if isinstance(result, Path):
        return result.stat().st_size
    if isinstance(result, tuple):
        content, buffers = result
        size = len(content) if isinstance(content, bytes) else 0
        return size + sum(memoryview(buffer).nbytes for buffer in buffers)
    return None


def reason(error: BaseException) -> str:
    """Return an error, and the one that it came from, in a line."""
    said = str(error.args[0] if error.args else error).strip().partition("\n")[0]
    text = f"{type(error).__name__}: {said[:300]}"
    return f"{text} (from {reason(error.__cause__)})" if error.__cause__ else text


def main() -> None:
    """Write the figures, line by line."""
    kind, contender, model, repeat, path, *ways = sys.argv[1:]
    with Path(path).open("a") as file:
        try:
            for figures in measure(kind, contender, model, int(repeat), ways):
                print(json.dumps(figures), file=file, flush=True)
        except Exception as error:
            print(json.dumps({"error": reason(error)}), file=file, flush=True)


if __name__ == "__main__":
    main()
