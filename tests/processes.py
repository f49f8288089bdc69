"""Run programs in processes of their own: what only works in one process does not ship."""

from __future__ import annotations

import ast
import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from pathlib import Path
from textwrap import dedent

import pytest

import forking
from keras_reduce.core import keras_backend

# Modules that programs share; each program finds them.
PROGRAMS = Path(__file__).parent / "programs"
ROOT = Path(__file__).parents[1]
# Here, Keras and scikit-learn can't be imported. What workers are forked from imports them if it
# finds them, which takes it seconds: programs about something else hide them.
UNIMPORTABLE = PROGRAMS / "unimportable"
# What Keras computes with in the programs: what ``KERAS_BACKEND`` says, as for any program.
BACKEND = keras_backend.expected()
# Which checks a program of checks is to run, as JSON; see ``programs/checks.py``.
SELECTED = "KERAS_REDUCE_CHECKS"


def program(name):
    """Return the path of a program of the tests, by its name, which no other has."""
    (path,) = Path(__file__).parent.glob(f"*/{name}")
    return path


def prepare(**environment):
    """Have a server ready for programs with this environment; it imports while others run."""
    forking.start(_whole(environment))


def _whole(environment, *path):
    """Return the environment of a program: ours, with what is added to it."""
    search = os.pathsep.join([*map(str, path), str(PROGRAMS), str(ROOT)])
    return {**os.environ, "PYTHONPATH": search, **_default_environment(), **environment}


class Running:
    """A program that runs as ``__main__`` of a process of its own.

    Parameters
    ----------
    code : str or Path
        The program's text, or the path of one.
    *arguments : object
        Its command line.
    path : sequence
        Folders in which it finds modules, before the root of the checkout.
    cwd : str or Path, optional
        Its working directory.
    timeout : float
        Seconds after which it is ended; a forked program, or one of checks, says before where its
        threads are.
    fresh : bool
        Whether it needs an interpreter that has imported nothing, see `forking`. It gets one as
        well if `environment` has a setting that is read when a process starts.
    fresh_servers : bool
        Whether the package's fork server, if the program starts it, is to be such an interpreter.
    **environment : str
        Added to ours.
    """

    def __init__(
        self,
        code,
        *arguments,
        path=(),
        cwd=None,
        timeout=300,
        fresh=False,
        fresh_servers=False,
        **environment,
    ):
        whole = _whole(environment, *path)
        search = whole["PYTHONPATH"].split(os.pathsep)
        file = str(code) if isinstance(code, Path) else None
        text = Path(code).read_text() if file else dedent(code)
        arguments = list(map(str, arguments))
        self._selector = selectors.DefaultSelector()
        self._output, out = os.pipe()
        self._errors, err = os.pipe()
        self._pieces = {self._output: bytearray(), self._errors: bytearray()}
        for source in self._pieces:
            self._selector.register(source, selectors.EVENT_READ)
        try:
            if fresh or not _may_be_forked(whole):
                self._process = subprocess.Popen(
                    [sys.executable, *([file] if file else ["-c", text]), *arguments],
                    env=whole,
                    cwd=cwd,
                    process_group=0,
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=err,
                )
            else:
                self._process = forking.Forked(
                    {
                        "code": text,
                        "file": file,
                        "arguments": arguments,
                        "environment": whole,
                        "path": [str(Path(file).parent) if file else "", *search],
                        "folder": str(cwd or Path.cwd()),
                        "servers": not fresh_servers and UNIMPORTABLE not in path,
                    },
                    out,
                    err,
                )
        finally:
            os.close(out)
            os.close(err)
        # From here on: a server that has just been started has imported before.
        self._timeout, self._deadline = timeout, time.monotonic() + timeout

    @property
    def pid(self):
        """The number of its process."""
        return self._process.pid

    @property
    def stdout(self):
        """Its standard output so far."""
        return self._pieces[self._output].decode(errors="replace")

    @property
    def printed(self):
        """Its standard output so far, and then its standard error."""
        return self.stdout + self._pieces[self._errors].decode(errors="replace")

    def read_until(self, is_enough):
        """Read until `is_enough()`; tell whether it was, before the program ended.

        Raises
        ------
        AssertionError
            If its time runs out; with what it has printed, and where its threads were.
        """
        while not is_enough():
            if not self._selector.get_map():
                self._process.wait()
                return False
            if not self._read(self._deadline):
                self._give_up()
        return True

    def finish(self):
        """Wait for its end, which must be a success, and return what it has printed."""
        self.read_until(lambda: False)
        status = self._process.returncode
        assert status == 0, f"{self.printed}\nended with {status}"
        return self.stdout

    def close(self):
        """End it if it runs, and what it has started."""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        for source in list(self._selector.get_map()):
            self._close(source)

    def _read(self, deadline):
        ready = self._selector.select(max(deadline - time.monotonic(), 0.0))
        for key, _ in ready:
            piece = os.read(key.fd, 1 << 20)
            self._pieces[key.fd] += piece
            if not piece:
                self._close(key.fd)
        return bool(ready)

    def _close(self, source):
        self._selector.unregister(source)
        os.close(source)

    def _give_up(self):
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._process.pid, signal.SIGUSR1)  # See `forking` and `checks.main`.
        end = time.monotonic() + 2.0
        while self._selector.get_map() and self._read(end):
            pass
        self.close()
        raise AssertionError(f"{self.printed}\nstopped after {self._timeout:g} s")


def python(code, *arguments, **options):
    """Run a program, which must not fail, and return what it prints; parameters as `Running`."""
    running = Running(code, *arguments, **options)
    try:
        return running.finish()
    finally:
        running.close()


def words(name, *arguments, **options):
    """Run a program of checks, or one that prints words itself, and return its words by name."""
    printed = python(program(name), *arguments, **options)
    lines = [line.removeprefix("WORDS ") for line in printed.splitlines() if line[:6] == "WORDS "]
    return {name: word for line in lines for name, word in json.loads(line).items()}


class Checks:
    """A program of checks while it runs; see ``programs/checks.py``.

    Parameters
    ----------
    name : str
        Its name.
    *arguments : object
        Its command line.
    selected : sequence of str, optional
        The checks that it is to run; if left out, all.
    **options : object
        As for `Running`.
    """

    def __init__(self, name, *arguments, selected=None, **options):
        if selected is not None:
            options[SELECTED] = json.dumps(selected)
        self._selected = selected
        self._running = Running(program(name), *arguments, **options)
        self._words = {}
        self._failure = ""

    def has(self, names):
        """Tell whether checks, or all if `names` is None, are among those that it runs."""
        return self._selected is None or (names is not None and set(names) <= set(self._selected))

    def demand(self, name):
        """Wait for the verdict on a check; fail with what it failed with."""
        __tracebackhide__ = True
        try:
            self._running.read_until(lambda: name in self._known())
        except AssertionError as error:
            self._failure = str(error)
        failure = f"no verdict on {name}\n{self._failure or self._running.printed}"
        word = self._words.get(name, failure)
        if word:
            pytest.fail(word, pytrace=False)

    def finish(self):
        """Wait for the end of the program, which must be a success; return all words by name."""
        self._running.finish()
        return self._known()

    def close(self):
        """End the program if it runs."""
        self._running.close()

    def _known(self):
        lines = self._running.stdout.splitlines()
        for line in lines[:-1] if not self._running.stdout.endswith("\n") else lines:
            if line.startswith("WORDS "):
                self._words.update(json.loads(line.removeprefix("WORDS ")))
        return self._words


def _default_environment():
    return {"TF_CPP_MIN_LOG_LEVEL": "3", **(_compiled_once() if BACKEND == "jax" else {})}


def _compiled_once():
    """Return the settings by which test programs share what JAX compiles."""
    return {
        "JAX_COMPILATION_CACHE_DIR": str(Path(os.environ[forking.FOLDER], "jax")),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }


def _may_be_forked(environment):
    """Tell whether other programs run with the same settings, but for the seed of hashes.

    OpenVINO starts threads when it is imported, so that a forked process would wait for them.
    """
    if environment.get("KERAS_BACKEND") == "openvino":
        return False
    usual = forking.settings({**os.environ, **_default_environment()})
    hash_seed = {"PYTHONHASHSEED": environment.get("PYTHONHASHSEED")}
    return {**usual, **hash_seed} == {**forking.settings(environment), **hash_seed}


def decorated(name, decorator):
    """Return the names of a program's functions with `decorator`, without importing it.

    Those that need another backend than the programs have, ``@check(needs="tensorflow")``, are
    left out. A test that is left out so is not there: it neither passes nor is it skipped.
    """
    return [
        node.name
        for node in ast.walk(ast.parse(program(name).read_text()))
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


# Over which ``programs/transports.py`` ships a zoo.
TRANSPORTS = (
    "pickle",
    "cloudpickle",
    "joblib",
    "joblib compressed",
    "joblib mmap",
    "deepcopy",
    "clone",
    "loky",
    "multiprocessing",
)


def shipped(zoo, folder, cases, transports, **environment):
    """Ship cases of a zoo over transports, and read them; return the words by case and transport.

    Parameters
    ----------
    zoo : str
        Name of the program.
    folder : Path
        Where it puts its files.
    cases, transports : sequence of str
        Their names.
    **environment : str
        Added to ours, for both programs.
    """
    environment["KERAS_REDUCE_TRANSPORTS"] = json.dumps(transports)
    prepare(**environment, **ELSEWHERE)
    python(program(zoo), folder, *cases, timeout=1500, **environment)
    # From elsewhere: the reader's folder must not make the zoo importable by chance. And with
    # another order of sets.
    python(program("transports.py"), folder, cwd=folder, timeout=1500, **environment, **ELSEWHERE)
    written = json.loads((folder / "written.json").read_text())
    read = json.loads((folder / "read.json").read_text())
    for name, words in read.items():
        for transport, word in words.items():
            written[name][transport] = written[name][transport] or word
    return written


# Forked programs have the hash seed of their server. A reader with this one has sets, and
# dictionaries of sets, in another order than the writer. Golden files are written with it.
ELSEWHERE = {"PYTHONHASHSEED": "0"}
