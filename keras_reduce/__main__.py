"""The command line: ``python -m keras_reduce``.

A command is a module with a ``main`` function that returns an exit code, and a few lines in
`_parser`. Its module is imported when the command runs, so that asking for help costs nothing.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from ._version import __version__
from .core.report_tree import plain
from .errors import KerasReduceError


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that `argv` names.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments; those of the program if not given.

    Returns
    -------
    int
        The exit code: 0 if all is well, 1 if not, 2 if the command could not begin.
    """
    parser = _parser()
    arguments = parser.parse_args(argv)
    if arguments.run is None:
        parser.print_help(sys.stderr)
        return 2
    try:
        code: int = arguments.run(arguments)
    except KerasReduceError as error:
        for line in f"{parser.prog}: {error}".splitlines():
            print(plain(line), file=sys.stderr)
        return 2 if isinstance(error, ImportError) else 1
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m keras_reduce",
        description="Ship Keras models through pickle, joblib and scikit-learn.",
    )
    parser.add_argument("--version", action="version", version=f"keras_reduce {__version__}")
    parser.set_defaults(run=None)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")

    demo = commands.add_parser("demo", help="search, dump, load elsewhere, train on: in a minute")
    demo.set_defaults(run=_demo)

    explain = commands.add_parser("explain", help="what in an object can't be pickled, and why")
    explain.add_argument(
        "target",
        metavar="module:name",
        help="for example train:pipeline or train.py:pipeline; the code of the module runs",
    )
    _add_formats(explain)
    explain.set_defaults(run=_explain)

    inspect = commands.add_parser("inspect", help="what is in a file; nothing of it is executed")
    inspect.add_argument("file", metavar="FILE", help="of pickle, cloudpickle or joblib")
    _add_formats(inspect)
    inspect.set_defaults(run=_inspect)
    return parser


def _add_formats(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON in place of a tree")
    parser.add_argument("--html", metavar="PAGE", help="write a page of HTML in place of that")


def _demo(arguments: argparse.Namespace) -> int:
    from .examples import demo

    return demo.main()


def _explain(arguments: argparse.Namespace) -> int:
    from . import explanation

    return explanation.main(arguments.target, as_json=arguments.json, page=arguments.html)


def _inspect(arguments: argparse.Namespace) -> int:
    from . import inspection

    return inspection.main(arguments.file, as_json=arguments.json, page=arguments.html)


if __name__ == "__main__":
    sys.exit(main())
