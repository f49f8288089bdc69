"""Run the examples in the docstrings of public objects.

Arguments: dotted names below ``keras_reduce``. Examples run after ``keras_reduce.install()``, and
write their files to the working directory.
"""

import doctest
import functools
import importlib
import sys

import keras_reduce

FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def public(name):
    """Return the object of a name, which may be in a module that is not imported yet."""
    module, _, last = f"keras_reduce.{name}".rpartition(".")
    if module != "keras_reduce":
        return getattr(importlib.import_module(module), last)
    return functools.reduce(getattr, name.split("."), keras_reduce)


def main(*names):
    import keras

    # Examples of the estimators take these for granted.
    given = {"keras": keras, "KerasRegressor": keras_reduce.KerasRegressor}
    finder, runner = doctest.DocTestFinder(), doctest.DocTestRunner(optionflags=FLAGS)
    without = []
    for name in names:
        tests = [
            test for test in finder.find(public(name), name, extraglobs=given) if test.examples
        ]
        if not tests:
            without.append(name)
        for test in tests:
            keras_reduce.install()
            runner.run(test, clear_globs=True)
    failed, attempted = runner.summarize(verbose=False)
    print(f"without examples: {' '.join(without)}")
    print(f"{attempted} examples, {failed} failed")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
