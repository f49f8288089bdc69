"""README's programs."""

import re
from pathlib import Path

README = (Path(__file__).parents[1] / "README.md").read_text()


def blocks(language):
    """Return README's blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)


def programs():
    """Put README's blocks of Python together: one that begins with a file name starts a program."""
    found = []
    for block in blocks("python"):
        if re.match(r"# \w+\.py\n", block):
            found.append("")
        found[-1] += block
    return {text.partition("\n")[0].removeprefix("# "): text for text in found}


# Those that need TensorFlow 2.12; see ``test_keras2.py``.
OF_KERAS_2 = {"classic.py"}
# Those that need an engine; see ``test_dask.py``.
OF_ENGINES = {"on_dask.py"}
