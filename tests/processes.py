"""Run programs in processes of their own: what only works in one process does not ship."""

from __future__ import annotations

import ast
import atexit
import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from textwrap import dedent

from keras_reduce import backends

PROGRAMS = Path(__file__).parent / "programs"
ROOT = Path(__file__).parents[1]


def python(code, *arguments, path=(), cwd=None, timeout=300, **environment):
    """Run `code` as ``__main__`` of a fresh process and return what it prints.

    `code` is a program's text, or the path of one; `environment` is added to ours. It must not
    fail.
    """
    if BACKEND == "jax":
        environment = {**_compiled_once(), **environment}
    program = [code] if isinstance(code, Path) else ["-c", dedent(code)]
    search = os.pathsep.join(map(str, [*path, ROOT]))
    result = subprocess.run(
        [sys.executable, *map(str, [*program, *arguments])],
        env={**os.environ, "PYTHONPATH": search, "TF_CPP_MIN_LOG_LEVEL": "3", **environment},
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


# What Keras computes with in the programs: what ``KERAS_BACKEND`` says, as for any program.
BACKEND = backends.expected()


@functools.cache
def _compiled_once():
    """Return what makes JAX compile in one program of the tests what others then find."""
    folder = tempfile.mkdtemp(prefix="jax-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return {
        "JAX_COMPILATION_CACHE_DIR": folder,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }


def decorated(program, decorator):
    """Return the names of a program's functions with `decorator`, without importing it.

    Those that need another backend than the programs have, ``@check(needs="tensorflow")``, are
    left out. A test that is left out so is not there: it neither passes nor is it skipped.
    """
    return [
        node.name
        for node in ast.walk(ast.parse((PROGRAMS / program).read_text()))
        if isinstance(node, ast.FunctionDef)
        and any(_is_marked(mark, decorator) for mark in node.decorator_list)
    ]


def _is_marked(mark, decorator):
    if not isinstance(mark, ast.Call):
        return getattr(mark, "id", "") == decorator
    if getattr(mark.func, "id", "") != decorator:
        return False
    needs = {keyword.arg: ast.literal_eval(keyword.value) for keyword in mark.keywords}
    return BACKEND in needs.get("needs", "").split()


def words(program, *arguments, **environment):
    """Run a program of checks and return its words by name; see ``programs/checks.py``."""
    printed = python(PROGRAMS / program, *arguments, **environment)
    (line,) = [line for line in printed.splitlines() if line.startswith("WORDS ")]
    return json.loads(line.removeprefix("WORDS "))


# Over which ``programs/shipping.py`` ships a zoo.
TRANSPORTS = (
    *("pickle", "cloudpickle", "joblib", "joblib compressed", "joblib mmap"),
    *("deepcopy", "clone", "loky", "multiprocessing"),
)


def shipped(zoo, folder, *cases, **environment):
    """Run a zoo, or some cases of it, and its reader; return the words by case and transport."""
    python(PROGRAMS / zoo, folder, *cases, timeout=1500, **environment)
    # From elsewhere: the reader's folder must not make the zoo importable by chance.
    python(PROGRAMS / "shipping.py", folder, cwd=folder, timeout=1500, **environment)
    written = json.loads((folder / "written.json").read_text())
    found = json.loads((folder / "read.json").read_text())
    for name, words in found.items():
        for transport, word in words.items():
            written[name][transport] = written[name][transport] or word
    return written
