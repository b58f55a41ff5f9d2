"""The names that the rules of the lint look for, and what they cannot mean."""

from __future__ import annotations

import re

# Modules that reach past the program itself: a change that begins to use one is worth a look.
REACHING = frozenset({
    "ctypes", "cffi", "pickle", "marshal", "dill", "joblib", "importlib", "imp", "inspect", "gc",
    "builtins", "subprocess", "socket", "requests", "urllib", "http", "httpx", "aiohttp", "multiprocessing",
    "threading", "signal", "atexit", "shutil", "runpy", "mmap", "faulthandler", "site", "code", "types",
    "weakref", "sys", "resource", "psutil", "pty", "asyncio", "concurrent", "tempfile", "zipimport",
    "pkgutil",
})  # fmt: skip
REACHING_PARTS = re.compile(r"\.(?:ctypeslib|ctypes|multiprocessing|subprocess|pickle)\b")
# Names of Python's own through which a number passes on its way out.
BUILTINS = frozenset({"print", "open", "float", "int", "str", "repr", "round", "format", "isinstance"})
# What training code imports anyway; everything else that is new is named.
USUAL = frozenset({
    "torch", "numpy", "math", "typing", "dataclasses", "functools", "itertools", "collections",
    "contextlib", "time", "random", "json", "re", "copy", "einops", "jax", "flax", "optax", "haiku",
    "sklearn", "scipy", "pandas", "tensorflow", "keras", "transformers", "triton", "torchvision",
    "torchaudio", "lightgbm", "xgboost", "abc", "enum", "operator", "statistics", "string", "warnings",
    "bisect", "heapq", "numbers", "os", "pathlib", "argparse", "logging", "__future__", "tqdm", "mlx",
})  # fmt: skip
SEEDS = re.compile(
    r"(?:^|\.)(?:manual_seed(?:_all)?|seed|set_seed|seed_everything|default_rng|PRNGKey|RandomState)$"
)
SEED_NAME = re.compile(r"(?i)^(?:random_?)?seed$")
BUDGET = re.compile(r"(?i)budget|deadline|time_?limit|max_?(?:time|seconds)")
CLOCK = re.compile(r"(?:^|\.)(?:time|perf_counter|monotonic|process_time)(?:_ns)?\(\)")
EVALUATION = re.compile(
    r"(?i)(?:^|[._])(?:evaluate\w*|validate\w*|evaluation\w*|estimate_loss|eval_\w+|score|report)$"
)
READS = re.compile(
    r"(?:^|\.)(?:open|load_dataset|read_text|read_bytes|fromfile|memmap|loadtxt|genfromtxt|read_csv|read_parquet|"
    r"read_json|glob|rglob|iterdir|listdir|scandir|urlopen|urlretrieve)$"
)
LOADS = re.compile(
    r"(?:^|\.)(?:torch\.(?:\w+\.)?load|pickle\.loads?|joblib\.load|dill\.loads?|np\.load|numpy\.load|load_file|from_pretrained|"
    r"hub\.load|load_state_dict_from_url)$"
)
EXITS = re.compile(r"^(?:os\._exit|os\.abort|os\.kill|os\.exec\w+|atexit\.register|signal\.\w+)$")
QUITS = re.compile(r"^(?:sys\.exit|exit|quit|SystemExit)$")
REACHES = re.compile(
    r"^(?:eval|exec|compile|__import__|globals|vars|setattr|delattr|breakpoint|importlib\.\w+|gc\.get_\w+|"
    r"inspect\.\w+|sys\._getframe|sys\.set(?:trace|profile)|os\.(?:system|popen|fork|spawn\w+)|ctypes\.[\w.]+|"
    r"subprocess\.\w+|(?:\w+\.)+__setattr__|(?:\w+\.)+__delattr__|threading\.\w+|multiprocessing\.[\w.]+|types\.(?:Function|Code)Type)$"
)
PATCHES = re.compile(r"^os\.(?:environ\.(?:update|setdefault|pop|clear|popitem)|putenv|unsetenv)$")
SPLIT = re.compile(
    r"(?i)(?:^|[/_.\-])(?:val|valid|validation|test|heldout|held_out|held-out|dev)(?:[/_.\-]|$)[^\s]*"
)
PATHLIKE = re.compile(
    r"^[^\s]{1,200}(?:/[^\s]*|\.(?:bin|npy|npz|pt|json|jsonl|txt|csv|parquet|arrow|h5|tsv|pkl))$"
)
SETTING = re.compile(r"(?:^|\.)(?:backends|config|_dynamo|_inductor|options|flags|rcParams)(?:\.|$)")
STARTUP = frozenset({"sitecustomize", "usercustomize", "conftest"})
LONG_TEXT = 1000  # characters of one literal
MANY_NUMBERS = 64  # numbers in one literal
