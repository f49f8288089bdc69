"""The wheel and the source archive: built, checked, complete, and used without the checkout."""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email.parser import Parser

import pytest

import keras_reduce
from pages import pages
from processes import ROOT, python

ADDRESS = "https://example.org/developers/keras_reduce"
# Folders that the source archive has as they are.
GRAFTED = ("benchmarks", "docs", "examples", "findings", "tests")
BUILT = ("__pycache__", "_build", "build", "dist", "*.egg-info", "*.pyc")


def run(*arguments, **options):
    """Run a command of Python, which must not fail, and return what it prints."""
    command = [sys.executable, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A folder with the source archive, and the wheel that was built from it."""
    pytest.importorskip("build")
    folder = tmp_path_factory.mktemp("packaging")
    # A copy, as building leaves files in the sources.
    source = folder / "source"
    hidden = shutil.ignore_patterns(".[!c]*", *BUILT)
    shutil.copytree(ROOT, source, ignore=hidden, symlinks=True)
    environment = {**os.environ, "KERAS_REDUCE_ADDRESS": f"{ADDRESS}/"}
    command = ("-m", "build", "--no-isolation", "--outdir", folder / "dist", source)
    run(*command, cwd=folder, env=environment)
    return folder / "dist"


@pytest.fixture(scope="module")
def archived(built):
    """The files of the source archive, below its root."""
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        return {member.name.partition("/")[2] for member in archive if member.isfile()}


@pytest.fixture(scope="module")
def site(built, tmp_path_factory):
    """A folder with the content of the wheel, as it is installed."""
    (path,) = built.glob("*.whl")
    folder = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(path) as wheel:
        wheel.extractall(folder)
    return folder


def test_an_index_accepts_both(built):
    pytest.importorskip("twine")
    paths = sorted(built.iterdir())
    assert [re.sub(r"^.*?(\.whl|\.tar\.gz)$", r"\1", path.name) for path in paths] == [
        ".whl",
        ".tar.gz",
    ]
    printed = run("-m", "twine", "check", "--strict", *paths)
    assert printed.count("PASSED") == 2


def test_the_source_archive_has_what_its_tests_need(archived):
    expected = {
        path.relative_to(ROOT).as_posix()
        for folder in GRAFTED
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and not any(path.match(name) for name in BUILT)
        if not {"__pycache__", "_build", ".hypothesis"} & set(path.parts)
    }
    expected |= {"pyproject.toml", "setup.cfg", "noxfile.py", ".ci/run", "LICENSE"}
    assert not expected - archived


def test_the_source_archive_has_the_pages_of_the_repository(archived):
    pages = {path.name for path in ROOT.glob("*.md")}
    assert {"README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"} <= pages <= archived


def test_the_wheel_has_the_package_only(site):
    package = ROOT / "keras_reduce"
    expected = {f"keras_reduce/{path.relative_to(package)}" for path in package.rglob("*.py")}
    files = {path.relative_to(site).as_posix() for path in site.rglob("*") if path.is_file()}
    information = {name for name in files if ".dist-info/" in name}
    assert files - information == expected | {"keras_reduce/py.typed"}
    assert any(name.endswith("/licenses/LICENSE") for name in information)


@pytest.fixture(scope="module")
def metadata(site):
    """The metadata of the wheel."""
    (path,) = site.glob("*.dist-info/METADATA")
    return Parser().parsestr(path.read_text())


def links(text):
    """Return the targets of the links and pictures of a page in Markdown."""
    return re.findall(r"\]\(([^)]*)\)", text)


def test_links_work_on_the_page_of_an_index(metadata):
    urls = dict(each.split(", ") for each in metadata.get_all("Project-URL"))
    assert urls.pop("Homepage") == ADDRESS
    assert urls.pop("Issues") == f"{ADDRESS}/issues"
    assert urls.keys() == {"Documentation", "Changelog"}
    page = metadata.get_payload()
    assert page.startswith("# keras_reduce")
    files = f"{ADDRESS}/blob/v{keras_reduce.__version__}/"
    for url in (*urls.values(), *links(page)):
        assert url.startswith(files)
        assert (ROOT / url.removeprefix(files).partition("#")[0]).is_file()
    assert len(links(page)) == len(links((ROOT / "README.md").read_text())) > 10


def test_without_an_address_there_are_names_of_files_for_links(tmp_path):
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE", "keras_reduce/_version.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "keras_reduce" / "__init__.py").touch()
    build = "from setuptools import build_meta as b; b.prepare_metadata_for_build_wheel('.')"
    environment = {name: text for name, text in os.environ.items() if "_ADDRESS" not in name}
    run("-c", build, cwd=tmp_path, env=environment)
    (path,) = tmp_path.glob("*.dist-info/METADATA")
    metadata = Parser().parsestr(path.read_text())
    assert metadata.get_all("Project-URL") is None
    assert links(metadata.get_payload()) == []
    assert "Security (`docs/security.md`)" in metadata.get_payload()


def test_metadata(metadata):
    assert metadata["Version"] == keras_reduce.__version__
    assert metadata["License-Expression"] == "Apache-2.0"
    versions = re.search(r">=3\.(\d+),<3\.(\d+)|<3\.(\d+),>=3\.(\d+)", metadata["Requires-Python"])
    last, first, *_ = sorted((int(each) for each in versions.groups() if each), reverse=True)
    declared = {each for each in metadata.get_all("Classifier") if " :: 3." in each}
    assert declared == {
        f"Programming Language :: Python :: 3.{minor}" for minor in range(first, last)
    }


def test_extras_that_messages_and_pages_name_are_declared():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].keys()
    package = (ROOT / "keras_reduce").rglob("*.py")
    named = {}
    for path in (*package, *(ROOT / "examples").glob("*.py"), *pages(), ROOT / ".ci" / "run"):
        # In a requirement, such as 'keras_reduce[dask,ray]' or '.[test]'; or alone, on a page.
        for names in re.findall(r"(?:keras_reduce|\.|`)\[([a-z0-9_,]+)\][`']", path.read_text()):
            named |= dict.fromkeys(names.split(","), path.name)
    assert {"dask", "progress", "ray", "tensorflow", "test"} <= named.keys()
    assert {name: path for name, path in named.items() if name not in extras} == {}


def test_the_wheel_works_without_the_checkout(site, tmp_path):
    printed = python(
        """
        import sys
        from pathlib import Path
        import keras, keras_reduce
        from importlib.metadata import version

        site = Path(sys.argv[1])
        assert version("keras_reduce") == keras_reduce.__version__
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="only")])
        keras_reduce.dump({"model": model, "square": lambda x: x * x}, "model.joblib")
        held = keras_reduce.load("model.joblib")
        same = zip(model.get_weights(), held["model"].get_weights(), strict=True)
        assert all((here == there).all() for here, there in same)
        modules = [m for name, m in sys.modules.items() if name.startswith("keras_reduce")]
        assert modules and all(site in Path(m.__file__).parents for m in modules)
        print(held["square"](3))
        """,
        site,
        path=[site],
        cwd=tmp_path,
    )
    assert printed == "9\n"
    environment = {**os.environ, "PYTHONPATH": str(site)}
    command = ("-m", "keras_reduce", "inspect", "model.joblib")
    assert "Dense 'only': 8 parameters" in run(*command, cwd=tmp_path, env=environment)


def test_entries_of_the_changelog_are_lines_under_known_titles():
    text = (ROOT / "CHANGELOG.md").read_text().partition("\n## [")[2]
    titles = re.findall(r"^### (.*)$", text, re.MULTILINE)
    assert set(titles) <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    assert keras_reduce.__version__ == text.partition("]")[0]
    for line in text.splitlines()[1:]:
        assert not line or line.startswith(("- ", "#"))
        assert len(line) < 250
