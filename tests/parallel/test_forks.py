"""Models in forked processes: see ``parallel/forks.py``."""

import pytest

from processes import decorated, python


@pytest.mark.parametrize("name", decorated("forks.py", "check"))
def test_forks(run_checks, name):
    run_checks("forks.py").demand(name)


def test_loading_after_the_fork_works_and_does_not_warn(tmp_path):
    """The recipe for servers: import before the fork, load a mapped file after it."""
    write = """
        import keras, keras_reduce, numpy as np
        keras_reduce.install()
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
        keras_reduce.dump(model, "model.joblib")
        print(model.predict(np.array([[1.0, 2.0, 3.0]]), verbose=0).tolist())
        """
    serve = """
        import logging, os, sys
        import keras, keras_reduce, numpy as np
        keras_reduce.install()
        handler = logging.Handler()
        handler.emit = lambda record: os._exit(3)
        logging.getLogger("keras_reduce").addHandler(handler)
        children = []
        for _ in range(2):
            child = os.fork()
            if not child:
                model = keras_reduce.load("model.joblib", mmap_mode="c")
                answer = model.predict(np.array([[1.0, 2.0, 3.0]]), verbose=0).tolist()
                print(answer, flush=True)
                os._exit(0)
            children.append(child)
        for child in children:
            assert os.waitpid(child, 0)[1] == 0
        """
    expected = python(write, cwd=tmp_path)
    assert python(serve, cwd=tmp_path, timeout=60).splitlines() == expected.splitlines() * 2


def test_a_missing_private_name_turns_the_warning_off():
    code = """
        import keras
        from checks import logged
        from keras_reduce.core import private_names
        from keras_reduce.families._shared import forked
        find = private_names.find
        for gone in forked.FORKS.names:
            # Private: only the first missing name is logged.
            forked.FORKS._has_told = False
            private_names.find = lambda name, default=None: (
                default if name == gone else find(name, default)
            )
            with logged("keras_reduce") as messages:
                forked.watch()
            assert len(messages) == 1 and "is off" in messages[0], messages
            assert not forked._is_watching
        private_names.find = find
        forked.watch()
        assert forked._is_watching
        """
    python(code)
