"""A fresh program loads a file: ``python loading.py FILE [BACKEND]``, having chosen or not."""

import os
import pickle
import sys
from pathlib import Path

if len(sys.argv) > 2:
    os.environ["KERAS_BACKEND"] = sys.argv[2]
found = pickle.loads(Path(sys.argv[1]).read_bytes())
print(sys.modules["keras"].config.backend())
