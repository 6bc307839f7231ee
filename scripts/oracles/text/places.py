"""Where the records lie, and where what they are made from is cached."""

import os
import pathlib

RECORDS = pathlib.Path(__file__).resolve().parents[3] / "tests" / "text-oracles"
CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "redoubt"
PACKAGE = CACHE / "llama-cpp-python-0.3.36"
