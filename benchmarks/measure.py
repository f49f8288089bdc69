"""Figures of one contender with one model, in this process; `run.py` starts one for each pair.

    python benchmarks/measure.py time CONTENDER MODEL REPEAT FILE WAY...
    python benchmarks/measure.py memory CONTENDER MODEL 0 FILE WAY...

Figures of memory are only right in the environment that `run.py` sets for them. The figures of each
way are appended to FILE at once, as a line of JSON, so that a crash loses none of them.
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
SLOW = 2.0  # seconds; slower operations get at most five repetitions


def measure(
    kind: str, contender: str, model: str, repeat: int, ways: list[str]
) -> Iterator[dict[str, Any]]:
    """Yield the size of the model, then the figures of each way, of one kind."""
    chosen = CONTENDERS[contender]
    chosen.prepare()
    built, inputs = build(model)
    sizes = [variable.numpy().nbytes for variable in variables(built)]
    yield {"weights": sum(sizes), "variables": len(sizes)}
    subject = chosen.subject(built)
    answer = chosen.answer(subject, inputs)
    # The collector runs before each repetition. It skips the objects up to here, as traversing
    # them would take longer than most operations.
    gc.collect()
    gc.freeze()
    figures: dict[str, Any] = {}
    for name in sorted(ways, key=_place):
        with tempfile.TemporaryDirectory() as folder:
            case = Case(chosen, subject, inputs, answer, Path(folder))
            twin = chosen.twins.get(name)
            if twin in figures:
                figures[name] = {**figures[twin], "same_as": twin}
            else:
                way = WAYS[name]
                reader = figures.get(way.checked_by, {})
                check = reader.get("check") or reader.get("error")
                figures[name] = _figures_or_reason(kind, way, case, repeat, check)
        yield {"way": name, **figures[name]}


def _place(way: str) -> int:
    """Return the sort key of a way: ways are measured in this order."""
    if way == "dumps":
        # Its bytes object grows in place. After a large model was loaded and dropped, glibc moves
        # it instead, which makes each contender half as slow again.
        return 0
    # Loading comes before dumping, since its check counts for both.
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
        # The result is freed outside the timing.
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
    operation()  # imports and caches of the first use do not count
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
    """Return the number of bytes written, or None if nothing was written."""
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
    """Return an error and its cause as one line of text."""
    said = str(error.args[0] if error.args else error).strip().partition("\n")[0]
    text = f"{type(error).__name__}: {said[:300]}"
    return f"{text} (from {reason(error.__cause__)})" if error.__cause__ else text


def main() -> None:
    """Append the figures to the file, line by line."""
    kind, contender, model, repeat, path, *ways = sys.argv[1:]
    with Path(path).open("a") as file:
        try:
            for figures in measure(kind, contender, model, int(repeat), ways):
                print(json.dumps(figures), file=file, flush=True)
        except Exception as error:
            print(json.dumps({"error": reason(error)}), file=file, flush=True)


if __name__ == "__main__":
    main()
