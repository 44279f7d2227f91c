"""The digests of `golden_values` in this process, as JSON.

``python -m tests.contracts.golden_digests`` prints them, ``forked`` those that a fork finds after
its parent has.  With ``write`` they go into the golden file, which is right only together with a
new `FORMAT` in `daskflow/caching/hashing.py`.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from tests.contracts.golden_values import digests

FILE = Path(__file__).with_name("golden_digests.json")

if __name__ == "__main__":
    if "forked" in sys.argv[1:]:
        dict(digests())  # threads that hash large buffers have been started, and are not forked
        if child := os.fork():
            sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    text = json.dumps(dict(digests()), indent=1) + "\n"
    if "write" in sys.argv[1:]:
        FILE.write_text(text)
    else:
        print(text)
