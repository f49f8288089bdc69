"""Load the files of ``by_any_pickler.py``, also by stock `joblib.load`, and train on with them."""

import json
import pickle
import sys
from pathlib import Path


def trained(model):
    """Return the bits of a model's predictions, before and after some more training."""
    import numpy as np

    x = np.linspace(0, 1, 24, dtype="float32").reshape(8, 3)
    y = x.sum(1, keepdims=True) * np.ones((1, 4), "float32")
    answers = [model.predict_on_batch(x)]
    for half in 2 * [slice(4), slice(4, 8)]:
        model.train_on_batch(x[half], y[half])
    answers.append(model.predict_on_batch(x))
    return [answer.tobytes().hex() for answer in answers]


def check_arrays(content):
    import numpy as np

    grid, model = content["grid"], content["model"]
    assert grid[0, 0] is model
    assert grid[0, 1] is content["list"]
    assert grid[1, 0] is content["numbers"]
    assert content["numbers"][-1] == 4999
    assert grid[1, 1](1) == 2
    assert grid.flags.f_contiguous
    assert content["records"]["object"][0] is model
    assert content["records"]["object"][1] is grid
    assert content["records"]["number"].tolist() == [1, 2]
    assert content["scalar"][()] is model
    assert content["cycle"][0] is content["cycle"]
    assert content["texts"][0] is content["texts"][1]
    assert content["texts"][0].tolist() == ["a", None, 1.5]
    assert type(content["matrix"]) is np.matrix
    assert content["matrix"][0, 0] is model


def main():
    import joblib

    import keras_reduce
    from checks import check, compute_eagerly
    from checks import main as run_checks

    folder = Path(sys.argv[1])
    expected = json.loads((folder / "expected.json").read_text())

    def loads(name):
        yield keras_reduce.load(folder / f"{name}.dump")
        for ending in ("dump", "joblib", "compressed", "older"):
            yield joblib.load(folder / f"{name}.{ending}")

    @check
    def the_first_dump_is_like_the_second():
        for name in ("first", "second"):
            content = pickle.loads((folder / f"{name}.pickle").read_bytes())
            assert content["estimator"].build_fn().layers[0] is content["layer"], name

    @check
    def arrays_of_objects():
        mapped = [
            joblib.load(folder / "arrays.joblib", mmap_mode="r"),
            keras_reduce.load(folder / "arrays.dump", mmap_mode="c"),
        ]
        for content in (*loads("arrays"), *mapped):
            check_arrays(content)
            assert trained(content["model"]) == expected["arrays"]
        scalar, model = joblib.load(folder / "by_reference.joblib")
        assert scalar[()] is model

    @check
    def arrays_of_objects_if_they_are_trusted():
        keras_reduce.dump(joblib.load(folder / "by_reference.joblib"), folder / "trusted.dump")
        scalar, model = keras_reduce.load(folder / "trusted.dump", trusted=[])
        assert scalar[()] is model

    @check
    def a_callback_without_its_base_constructor():
        assert pickle.loads((folder / "callback.pickle").read_bytes()).function() == 7

    @check
    def classes_that_claim_a_module():
        for name in expected:
            if name.startswith("claims_"):
                content = joblib.load(folder / f"{name}.dump")
                assert trained(content["model"]) == expected[name], name

    @check
    def modules_that_no_other_process_can_import():
        for content in loads("modules"):
            assert trained(content["model"]) == expected["modules"]
            assert type(content["plain"]).__name__ == "Plain"
            assert content["function"](2) == 6
        model = pickle.loads((folder / "module.pickle").read_bytes())
        assert trained(model) == expected["modules"]

    compute_eagerly()
    run_checks()


if __name__ == "__main__":
    main()
