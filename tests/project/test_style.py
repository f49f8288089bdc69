"""The mechanical part of the style: first words, banned words, names, plain tables."""

import ast
import io
import re
import tokenize

import pytest

from processes import ROOT

# Modules that do not follow a rule yet. A module that follows it must be removed from its line.
ALLOWED = {
    "first words": """
    """,
    "banned words": """
        tests/core/dispatching
        tests/core/test_picklers
        tests/trace_cache/reuse
    """,
    "names": """
        keras_reduce/core/process_role
        keras_reduce/dry_run/dry_pickler
        keras_reduce/families/_shared/facts
        keras_reduce/families/keras2/compilation
        keras_reduce/families/keras2/leftovers
        keras_reduce/families/keras2/structure
        keras_reduce/families/keras3/likeness
        keras_reduce/families/keras3/making
        keras_reduce/families/keras3/optimizers
        keras_reduce/families/keras3/order
        keras_reduce/families/keras3/structure
        keras_reduce/families/keras3/tree
    """,
    "star-packed literals": """
    """,
}

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
    for folder in ("keras_reduce", "benchmarks", "tests")
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
    breaches = {name: list(RULES[rule](module)) for name, module in modules.items()}
    allowed = set(ALLOWED[rule].split())
    new = [
        f"{name}.py:{line}: {text}"
        for name, found in breaches.items()
        for line, text in found
        if name not in allowed
    ]
    assert not new
    assert sorted(name for name in allowed if not breaches.get(name)) == []


def test_rules_find_breaches():
    module = Module('"""What this is."""\nfound = (*("a", "b"), "c")  # stands for nobody\n')
    breaches = {rule: [text for _, text in check(module)] for rule, check in RULES.items()}
    assert breaches == {
        "first words": ["What this is."],
        "banned words": ["stands", "nobody"],
        "names": ["found"],
        "star-packed literals": ["*('a', 'b')"],
    }
