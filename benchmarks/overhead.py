"""CPU time of a small fit and prediction with an estimator, against that with `keras.wrappers`.

    python benchmarks/overhead.py [--rounds N]

Each contender runs in processes of its own, in turn with the others. A process fits and predicts
several times, and the median counts; the ratio is that of the medians of all rounds. Traces are not
shared among models (``install(reuse=False)``), since `keras.wrappers` doesn't either. No part of
the gate: a run takes minutes.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time

from fresh import in_turn

ROWS, FEATURES, EPOCHS = 300, 10, 2
CONTENDERS = ("keras.wrappers", "keras_reduce", "keras_reduce.scikeras")


def measure(contender: str, repeats: int) -> dict[str, float]:
    """Return the median CPU seconds of a fit and of a prediction, without the first ones."""
    import keras
    import numpy as np

    def build(X: object = None, y: object = None) -> keras.Model:  # noqa: N803
        sizes = [keras.layers.Dense(units, "relu") for units in (32, 16)]
        model = keras.Sequential([keras.Input((FEATURES,)), *sizes, keras.layers.Dense(1)])
        model.compile("adam", "mse")
        return model

    options = {"epochs": EPOCHS, "verbose": 0}
    if contender == "keras.wrappers":
        from keras.wrappers import SKLearnRegressor

        estimator = SKLearnRegressor(build, fit_kwargs=options)
        predicting = {"verbose": 0}
    else:
        import keras_reduce

        keras_reduce.install(reuse=False)
        module = keras_reduce.scikeras if contender.endswith("scikeras") else keras_reduce
        estimator = module.KerasRegressor(build, **options)
        predicting = {}
    rng = np.random.default_rng(0)
    data, targets = rng.random((ROWS, FEATURES)).astype("float32"), rng.random(ROWS)
    seconds: dict[str, list[float]] = {"fit": [], "predict": []}
    for _ in range(repeats + 1):
        start = time.process_time()
        estimator.fit(data, targets)
        seconds["fit"].append(time.process_time() - start)
        start = time.process_time()
        # The method of keras.wrappers takes no arguments for Keras, and shows a bar.
        (estimator.model_ if predicting else estimator).predict(data, **predicting)
        seconds["predict"].append(time.process_time() - start)
    return {name: statistics.median(values[1:]) for name, values in seconds.items()}


def main() -> None:
    """Measure all contenders in turn, and print their ratios to `keras.wrappers`."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--repeats", type=int, default=6)
    parser.add_argument("--contender", choices=CONTENDERS)
    options = parser.parse_args()
    if options.contender:
        print(json.dumps(measure(options.contender, options.repeats)))
        return
    figures = in_turn(__file__, CONTENDERS, options.rounds, "--repeats", options.repeats)
    for what in ("fit", "predict"):
        medians = {
            name: statistics.median(each[what] for each in measured)
            for name, measured in figures.items()
        }
        for name in CONTENDERS[1:]:
            print(what, name, round(medians[name] / medians[CONTENDERS[0]], 3))


if __name__ == "__main__":
    main()
