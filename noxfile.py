"""Sessions of nox, one for each row of versions: ``nox -l`` lists them, ``nox -s NAME`` runs one.

``tests/rows.py`` defines the rows. Each has an environment below ``.nox``, which ``-r`` uses again;
arguments after ``--`` go to pytest in place of the row's test files. The row ``tensorflow`` has no
environment: it runs in the one in which nox is installed.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import nox

sys.path.insert(0, str(Path(__file__).parent / "tests"))

from rows import ROWS, declared, path_of

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "venv"
nox.options.error_on_missing_interpreters = True
nox.options.sessions = [*(name for name, row in ROWS.items() if row.in_gate), "versions", "docs"]

DUMPS = Path(".nox") / "dumps"


def environment(name: str) -> dict[str, str]:
    """Return the environment variables for the tests of a row."""
    row = ROWS[name]
    backend = {"KERAS_BACKEND": row.backend} if row.backend else {}
    return {"KERAS_REDUCE_ROW": name, "TF_CPP_MIN_LOG_LEVEL": "3", **backend}


def python(name: str) -> str:
    """Return the path of the Python interpreter of a row."""
    return sys.executable if name == "tensorflow" else str(Path(".nox") / name / "bin" / "python")


def install(session: nox.Session, name: str) -> None:
    """Install the requirements of a row and the package."""
    row = ROWS[name]
    replaced = {_name(requirement) for requirement in row.installs}
    needed = [requirement for requirement in declared() if _name(requirement) not in replaced]
    session.install("--quiet", *needed, *row.installs)
    # Its requirements are installed, or the versions that the row has in their place.
    session.install("--quiet", "--no-deps", "-e", ".")
    session.run("python", "-m", "pip", "list", "--format=freeze")


def _name(requirement: str) -> str:
    return re.split(r"[^\w.-]", requirement)[0].lower()


def run(session: nox.Session, name: str) -> None:
    """Run the tests of a row."""
    parts = [test.partition("::") for test in ROWS[name].tests]
    files = [f"tests/{path_of(file)}{colons}{test}" for file, colons, test in parts]
    arguments = session.posargs or files
    session.run(
        python(name),
        "-m",
        "pytest",
        "--durations=5",
        *arguments,
        env=environment(name),
        external=True,
    )


def _row(name: str) -> None:
    row = ROWS[name]

    def session(session: nox.Session) -> None:
        if name != "tensorflow":
            install(session, name)
        run(session, name)

    session.__doc__ = f"{row.about[0].upper()}{row.about[1:]}."
    backend = {"venv_backend": "none"} if name == "tensorflow" else {"python": row.python}
    nox.session(session, name=name, **backend)


for _each in ROWS:
    _row(_each)


@nox.session(venv_backend="none")
def versions(session: nox.Session) -> None:
    """Load in each row the dumps of other rows, whose environments must exist.

    Arguments after ``--`` are the rows that read; the default are all rows with dumps to read.
    """
    readers = session.posargs or [name for name, row in ROWS.items() if row.reads and row.in_gate]
    for name in dict.fromkeys(writer for reader in readers for writer in ROWS[reader].reads):
        session.run(
            python(name),
            "tests/core/between_versions.py",
            "write",
            str(DUMPS / name),
            env=environment(name),
            external=True,
        )
    for name in readers:
        session.run(
            python(name),
            "-m",
            "pytest",
            "-q",
            "tests/core/test_versions.py",
            env=environment(name) | {"KERAS_REDUCE_DUMPS": str(DUMPS.absolute())},
            external=True,
        )


@nox.session(venv_backend="venv")
def docs(session: nox.Session) -> None:
    """Build the pages of ``docs``, warnings as errors, and follow each link within them."""
    session.install("--quiet", "-e", ".[docs]")
    html = "docs/_build/html"
    options = ("--nitpicky", "--fail-on-warning", "--keep-going", "--fresh-env", "--quiet")
    session.run("sphinx-build", *options, "docs", html)
    session.run("python", "tests/project/html_links.py", html)
