"""Count of the processes that import a framework while the tests run.

    python tests/framework_imports.py [PYTEST_ARGUMENT ...]

runs pytest and prints the count by program. Each such process costs seconds. Forked processes that
have the framework already are not counted. During the run, a file in the site-packages of this
interpreter makes each of its processes report; it is removed afterwards.
"""

from __future__ import annotations

import ast
import collections
import contextlib
import os
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path

REPORT = "KERAS_REDUCE_IMPORTS"
# The first inner module that each framework imports; `find_spec` may ask for the framework alone.
FRAMEWORKS = ("tensorflow.python", "jax._src", "torch._C")
HOOK = f"""
import os, sys
class Finder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name in {FRAMEWORKS!r}:
            argv = getattr(sys, "argv", None) or sys.orig_argv[1:]
            line = [os.getpid(), name, sys.orig_argv[-1][:120], *argv[:3]]
            with open(os.environ[{REPORT!r}], "a") as report:
                report.write(repr(line) + chr(10))
if {REPORT!r} in os.environ:
    sys.meta_path.insert(0, Finder)
"""


@contextlib.contextmanager
def reporting(path):
    """Make each process of this interpreter report its imports of frameworks to `path`."""
    packages = Path(sysconfig.get_path("purelib"))
    module, hook = packages / "_framework_imports.py", packages / "_framework_imports.pth"
    os.environ[REPORT] = str(path)
    module.write_text(HOOK)
    hook.write_text("import _framework_imports\n")
    try:
        yield
    finally:
        hook.unlink()
        module.unlink()
        del os.environ[REPORT]


def counted(report):
    """Return the number of processes that have imported a framework, by command line."""
    by_process = {}
    for line in report.read_text().splitlines():
        process, _, *arguments = ast.literal_eval(line)
        by_process.setdefault(process, " ".join(arguments))
    return collections.Counter(by_process.values())


def main(*arguments):
    """Run pytest with `arguments`, print the counts, and return its exit code."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report"
        report.touch()
        start = time.monotonic()
        with reporting(report):
            done = subprocess.run([sys.executable, "-m", "pytest", *arguments], check=False)
        seconds = time.monotonic() - start
        counts = counted(report)
    for command, count in counts.most_common():
        print(f"{count:5} {command}")
    print(f"{counts.total():5} processes imported a framework, in {seconds:.0f} s")
    return done.returncode


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
