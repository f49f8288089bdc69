"""The mechanical part of the style: first words, banned words, names, plain tables."""

import ast
import io
import re
import tokenize

import pytest

from pages import pages
from processes import ROOT

FIRST_WORDS = re.compile(r"(what|whether|where|who|whose)\b", re.IGNORECASE)
# "Return what ..." is a noun phrase without its noun.
NO_NOUN = re.compile(
    r"(return|returns|yield|give|gives|tell|tells|find|list|say) (what|who)\b", re.IGNORECASE
)
BANNED_WORDS = re.compile(
    r"\b(nobody|somebody|anybody|whoever|whatever|anew|be had|stands?|comes? to rest"
    r"|of the user's)\b",
    re.IGNORECASE,
)
BANNED_NAMES = {"found", "it", "known", "made", "own"}
# The code of golden objects is in golden files, and this module has the words themselves.
EXCEPT = ("tests/golden/objects.py", "tests/project/test_style.py")
PATHS = sorted(
    path
    for folder in ("keras_reduce", "benchmarks", "examples", "tests")
    for path in (ROOT / folder).rglob("*.py")
    if path.relative_to(ROOT).as_posix() not in EXCEPT
)


def name_of(path):
    return path.relative_to(ROOT).with_suffix("").as_posix()


class Module:
    """Source text and syntax nodes of a module."""

    def __init__(self, source):
        self.source, self.nodes = source, list(ast.walk(ast.parse(source)))

    def docstrings(self):
        kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        for node in self.nodes:
            if isinstance(node, kinds) and (text := ast.get_docstring(node)):
                yield getattr(node, "lineno", 1), text

    def texts(self):
        """Yield line and text of all comments and string literals, docstrings included."""
        for token in tokenize.generate_tokens(io.StringIO(self.source).readline):
            if token.type == tokenize.COMMENT:
                yield token.start[0], token.string
        for node in self.nodes:
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.lineno, node.value


def first_words(module):
    for line, text in module.docstrings():
        if FIRST_WORDS.match(text) or NO_NOUN.match(text):
            yield line, text.splitlines()[0]


def banned_words(module):
    if not BANNED_WORDS.search(" ".join(module.source.split())):
        return  # Tokens take long.
    for line, text in module.texts():
        for match in BANNED_WORDS.finditer(text):
            yield line, match[0]


def names(module):
    for node in module.nodes:
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            name = node.id
        elif isinstance(node, ast.arg):
            name = node.arg
        elif isinstance(node, ast.alias):
            name = node.asname
        else:
            continue
        if name in BANNED_NAMES:
            yield node.lineno, name


def star_packed_literals(module):
    for node in module.nodes:
        if isinstance(node, ast.Starred) and isinstance(node.value, (ast.Tuple, ast.List)):
            yield node.lineno, ast.unparse(node)


RULES = {
    "first words": first_words,
    "banned words": banned_words,
    "names": names,
    "star-packed literals": star_packed_literals,
}


@pytest.fixture(scope="module")
def modules():
    return {name_of(path): Module(path.read_text()) for path in PATHS}


@pytest.mark.parametrize("rule", RULES)
def test_modules_follow_the_rule(modules, rule):
    breaches = [
        f"{name}.py:{line}: {text}"
        for name, module in modules.items()
        for line, text in RULES[rule](module)
    ]
    assert not breaches


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_pages_have_no_banned_words(page):
    assert BANNED_WORDS.findall(page.read_text()) == []


def test_rules_find_breaches():
    module = Module('"""What this is."""\nfound = (*("a", "b"), "c")  # stands for nobody\n')
    breaches = {rule: [text for _, text in check(module)] for rule, check in RULES.items()}
    assert breaches == {
        "first words": ["What this is."],
        "banned words": ["stands", "nobody"],
        "names": ["found"],
        "star-packed literals": ["*('a', 'b')"],
    }
