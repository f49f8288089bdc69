"""Files loaded in processes without Keras: ``python loading.py FRAMEWORK CASES``.

A case (of a JSON list) is a file and environment variables. For each, a process that has not
imported Keras sets the variables, loads the file, and prints Keras's backend. It is forked from a
process that has imported FRAMEWORK, since that import takes most of the time.
"""

import importlib
import json
import os
import pickle
import sys
from pathlib import Path

framework, cases = sys.argv[1:]
sys.modules["keras"] = None  # TensorFlow would import it.
importlib.import_module(framework)
del sys.modules["keras"]
for file, environment in json.loads(cases):
    child = os.fork()
    if child:
        assert os.waitpid(child, 0)[1] == 0
        continue
    assert "keras" not in sys.modules
    os.environ.update(environment)
    pickle.loads(Path(file).read_bytes())
    print("FOUND", sys.modules["keras"].config.backend(), flush=True)
    sys.exit()
