"""prepare.py of this checkout as a module, for tests that only need its small functions."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

_spec = importlib.util.spec_from_file_location("prepare", Path(__file__).resolve().parents[1] / "prepare.py")
assert _spec is not None and _spec.loader is not None
prepare = sys.modules.setdefault("prepare", importlib.util.module_from_spec(_spec))
if not hasattr(prepare, "file_hash"):
    _spec.loader.exec_module(prepare)
