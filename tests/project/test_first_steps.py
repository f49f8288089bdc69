"""First steps of a new user and the messages they get, all without Keras."""

import io
import sys

import joblib
import numpy as np
import pytest

import keras_reduce
from keras_reduce import KerasRegressor, PayloadError
from keras_reduce.__main__ import main
from keras_reduce.parallel import gpus, make_backend, progress, server, warm
from processes import python


def test_completion_shows_what_is_public():
    shown = dir(keras_reduce)
    assert set(keras_reduce.__all__) <= set(shown)
    assert set(shown) - set(keras_reduce.__all__) == {"dask", "ray", "scikeras", "spark"}
    assert "KerasRegressor" in shown


@pytest.mark.parametrize(
    ("call", "cure"),
    [
        (lambda: keras_reduce.dump("file", [1]), "dump(obj, path) takes the object first"),
        (lambda: keras_reduce.inspect([1]), "explain(obj) looks into an object"),
        (lambda: keras_reduce.load(b"bytes"), "loads(data) takes bytes"),
        (lambda: keras_reduce.loads("file"), "load(path) takes the path of a file"),
        (lambda: keras_reduce.load(io.BytesIO()), "pass the path of the file; dumps and loads"),
        (lambda: keras_reduce.dump([1], io.BytesIO()), "pass the path of the file"),
    ],
)
def test_swapped_arguments(call, cure):
    with pytest.raises(TypeError) as caught:
        call()
    assert cure in str(caught.value)


def test_a_file_of_text(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("hello there, this is a text\n")
    with pytest.raises(PayloadError, match="no pickle in the file") as caught:
        keras_reduce.inspect(path)
    assert "such as text" in caught.value.cause
    assert "KeyError" not in caught.value.cause
    with pytest.raises(PayloadError) as caught:
        keras_reduce.load(path)
    assert "verify=False" in caught.value.cure
    with pytest.raises(PayloadError) as caught:
        keras_reduce.load(path, verify=False)
    assert "keras_reduce.inspect" in caught.value.cure  # It tells that the file is no pickle.


@pytest.mark.parametrize("left", [0.2, 0.99])
def test_a_file_that_was_cut_off(tmp_path, left):
    path = tmp_path / "cut.joblib"
    whole = keras_reduce.dumps({"array": np.arange(1000)})
    path.write_bytes(whole[: int(len(whole) * left)])
    assert "digests: none; the file is cut off, or" in str(keras_reduce.inspect(path))


def test_a_plain_file_of_joblib(tmp_path):
    path = tmp_path / "plain.joblib"
    joblib.dump([1, 2], path)
    with pytest.raises(PayloadError) as caught:
        keras_reduce.load(path)
    assert "joblib.load" in caught.value.cure
    assert keras_reduce.load(path, verify=False) == [1, 2]
    assert "so keras_reduce.dump did not write it" in str(keras_reduce.inspect(path))


@pytest.mark.parametrize("trusted", [None, []])
def test_a_plain_file_is_not_sent_to_a_reader_that_trusts_more(tmp_path, trusted):
    path = tmp_path / "plain.joblib"
    joblib.dump([1, 2], path)
    for read in (
        lambda: keras_reduce.load(path, trusted=trusted),
        lambda: keras_reduce.loads(path.read_bytes(), trusted=trusted),
    ):
        with pytest.raises(PayloadError) as caught:
            read()
        assert "verify=False" in caught.value.cure
        for call in ("joblib.load", "pickle.loads"):
            assert (call in caught.value.cure) <= (trusted is None)
        assert ("trusted=[...]" in caught.value.cure) is (trusted is not None)
    assert keras_reduce.load(path, trusted=[], verify=False) == [1, 2]


def test_options_that_the_backend_does_not_have():
    with pytest.raises(TypeError, match="no option 'retrys': did you mean 'retries'"):
        make_backend(retrys=1)
    with keras_reduce.installed():
        with pytest.raises(TypeError, match="'gpu': did you mean 'gpus'"):
            joblib.parallel_config("keras", gpu=1)
        for n_jobs in (1, 2):
            parallel = joblib.Parallel(n_jobs, backend="keras", retrys=1)
            with pytest.raises(TypeError, match="no option 'retrys': did you mean 'retries'"):
                parallel(joblib.delayed(abs)(number) for number in range(2))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"retries": "2"}, "retries must be a whole number, 0 or more, not '2'"),
        ({"retries": -1}, "retries must be a whole number, 0 or more, not -1"),
        ({"max_worker_growth": "40 MB"}, "max_worker_growth must be a number of bytes"),
    ],
)
def test_values_that_the_backend_can_not_use(options, said):
    with pytest.raises(ValueError, match=said):
        make_backend(**options)
    make_backend(retries=2, max_worker_growth=None)


def test_gpus_are_a_list():
    with pytest.raises(ValueError, match="gpus must be 'auto', a list of names, or None, not 1"):
        gpus.devices(1)
    assert gpus.devices([0, "1"]) == ("0", "1")


def test_a_bar_that_cannot_be_shown(monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    monkeypatch.setattr(sys, "stderr", type("Terminal", (io.StringIO,), {"isatty": bool})())
    parallel = joblib.Parallel(pre_dispatch="all")
    progress.Progress(parallel)
    assert not caplog.messages  # The bar would not be visible anyway.
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    for _ in range(2):
        progress.Progress(parallel)
    assert caplog.messages == [
        "progress=True shows nothing without tqdm: pip install 'keras_reduce[progress]'"
    ]


def test_a_bar_in_a_notebook(monkeypatch):
    shown = []
    auto = type(sys)("tqdm.auto")
    auto.tqdm = lambda **options: shown.append(options)
    monkeypatch.setitem(sys.modules, "tqdm", type(sys)("tqdm"))
    monkeypatch.setitem(sys.modules, "tqdm.auto", auto)
    monkeypatch.setitem(sys.modules, "ipykernel", type(sys)("ipykernel"))
    # A notebook shows this stream below a cell.
    stream = type("OutStream", (io.StringIO,), {"__module__": "ipykernel.iostream"})()
    monkeypatch.setattr(sys, "stderr", stream)
    progress.Progress(joblib.Parallel(pre_dispatch="all"))
    assert len(shown) == 1


def test_a_file_in_place_of_a_module_is_explained(tmp_path, capsys):
    (tmp_path / "stuck_program.py").write_text("import threading\njob = [threading.Lock()]\n")
    assert main(["explain", f"{tmp_path / 'stuck_program.py'}:job"]) == 1
    assert "job[0] (_thread.lock)" in capsys.readouterr().out
    assert main(["explain", "no_such_file.py:job"]) == 2
    assert "There is no file 'no_such_file.py'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "cure"),
    [
        ("model__units", "leave out SciKeras's prefix: units"),
        ("optimizer", "give it an argument 'optimizer'"),
        ("model", "pass the function as build_fn"),
        ("callbacks__stop__patience", "use the estimators of keras_reduce.scikeras"),
        ("warm_start", "use the estimators of keras_reduce.scikeras"),
        ("epoch", "did you mean epochs"),
        ("nonsense", "give build_fn an argument 'nonsense', or leave it out"),
    ],
)
def test_parameters_of_scikeras(name, cure):
    with pytest.raises(ValueError, match="is not a legal parameter") as caught:
        KerasRegressor(lambda units=1: None, **{name: 1})
    assert cure in str(caught.value)


def test_hashes_of_code_without_code_by_value():
    python(
        """
        import joblib, keras_reduce

        def tried(function):
            try:
                return joblib.hash(function)
            except Exception as error:
                return type(error)

        def of_main():
            return 1

        local = (lambda: lambda: 1)()
        alone = tried(of_main), tried(local)
        with keras_reduce.installed(functions_by_value=False):
            assert (tried(of_main), tried(local)) == alone
        with keras_reduce.installed():
            assert not {tried(of_main), tried(local)} & set(alone)
        """,
        fresh=True,
    )


@pytest.mark.parametrize(("seconds", "said"), [(1.5, ["Wait."]), (0, [])])
def test_a_program_that_waits_for_imports_says_so(tmp_path, monkeypatch, caplog, seconds, said):
    (tmp_path / "slow_module.py").write_text(f"import time\ntime.sleep({seconds})\n")
    monkeypatch.syspath_prepend(tmp_path)
    starting = server.Server(["slow_module"], explanation="Wait.")
    try:
        for _ in range(2):
            starting.wait_until_ready()
    finally:
        starting.stop()
    assert caplog.messages == said


@pytest.mark.parametrize("imported", [True, False])
def test_who_has_imported_keras_expects_to_wait(monkeypatch, imported):
    for name in ("keras", "tf_keras"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    if imported:
        monkeypatch.setitem(sys.modules, "keras", type(sys)("keras"))
    servers = []
    monkeypatch.setattr(warm, "Server", lambda *arguments: servers.append(arguments))
    monkeypatch.setattr(warm, "_server", None)  # Private: the real server of this program stays.
    warm.server()
    *_, explanation = servers[0]
    assert bool(explanation) is not imported
