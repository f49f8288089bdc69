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
    """Run the command in `argv`.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments; by default ``sys.argv[1:]``.

    Returns
    -------
    int
        The exit code: 0 on success, 1 if there are obstacles or an error, 2 if it could not run.
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

    demo = commands.add_parser(
        "demo", help="run a search, dump it, load it in another process, continue training"
    )
    demo.set_defaults(run=_demo)

    explain = commands.add_parser(
        "explain", help="list everything in an object that can't be pickled"
    )
    explain.add_argument(
        "target",
        metavar="module:name",
        help="for example train:pipeline or train.py:pipeline; the code of the module runs",
    )
    _add_formats(explain)
    explain.set_defaults(run=_explain)

    cache = commands.add_parser(
        "cache", help="list or remove the traces that programs keep for later ones"
    )
    cache.add_argument("action", choices=("list", "size", "clear"))
    cache.add_argument(
        "folder",
        metavar="FOLDER",
        nargs="?",
        help="their folder; by default the variable KERAS_REDUCE_TRACE_CACHE",
    )
    cache.set_defaults(run=_cache)

    inspect = commands.add_parser(
        "inspect", help="list the contents of a file without executing any of it"
    )
    inspect.add_argument("file", metavar="FILE", help="a file of pickle, cloudpickle or joblib")
    _add_formats(inspect)
    inspect.set_defaults(run=_inspect)
    return parser


def _add_formats(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON instead of a tree")
    parser.add_argument("--html", metavar="PAGE", help="write an HTML page instead")


def _demo(arguments: argparse.Namespace) -> int:
    from .examples import demo

    return demo.main()


def _explain(arguments: argparse.Namespace) -> int:
    from . import explanation

    return explanation.main(arguments.target, as_json=arguments.json, page=arguments.html)


def _cache(arguments: argparse.Namespace) -> int:
    from .trace_cache import command

    return command.main(arguments.action, arguments.folder)


def _inspect(arguments: argparse.Namespace) -> int:
    from . import inspection

    return inspection.main(arguments.file, as_json=arguments.json, page=arguments.html)


if __name__ == "__main__":
    sys.exit(main())
