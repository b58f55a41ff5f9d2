"""Which variables of the caller's environment a training sees: a list, and what the project itself names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

NAMES = {
    "PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TERM", "TMPDIR", "HOSTNAME",
    "SEED", "VIRTUAL_ENV", "MASTER_ADDR", "MASTER_PORT", "RANK", "WORLD_SIZE", "LOCAL_RANK",
    "LOCAL_WORLD_SIZE", "MPLBACKEND", "MPLCONFIGDIR", "NO_COLOR", "COLUMNS", "SOURCE_DATE_EPOCH", "CC",
    "CXX", "CPATH", "LIBRARY_PATH", "MALLOC_CONF", "ACCELERATE_MIXED_PRECISION",
    "TOKENIZERS_PARALLELISM", "TRANSFORMERS_OFFLINE", "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION",
}  # fmt: skip
FAMILIES = (
    "LC_", "LD_", "DYLD_", "XDG_", "PYTHON", "CONDA_", "MAMBA_", "UV_", "PIP_", "CUDA_", "CUDNN_",
    "CUBLAS_", "NVIDIA_", "NCCL_", "TORCH", "PYTORCH_", "TRITON_", "ROCR_", "ROCM_", "HIP_", "HSA_",
    "MIOPEN_", "GPU_", "ZE_", "SYCL_", "ONEAPI_", "NEURON_", "TPU_", "PJRT_", "XLA_", "JAX_", "TF_",
    "KERAS_", "FLAX_", "OMP_", "KMP_", "GOMP_", "MKL_", "OPENBLAS_", "BLIS_", "VECLIB_", "NUMEXPR_",
    "NUMBA_", "RAYON_", "ARROW_", "POLARS_", "HF_", "HUGGINGFACE_", "TRANSFORMERS_", "DATASETS_",
    "SKLEARN_", "JOBLIB_", "LOKY_", "GLOO_", "UCX_", "OMPI_", "PMI", "SLURM_", "AUTORESEARCH_",
    "MALLOC_", "OPENCV_", "NLTK_", "WANDB_MODE", "WANDB_DIR", "WANDB_SILENT", "WANDB_DISABLED",
    "COV_CORE_",
)  # fmt: skip
SECRET = re.compile(r"(?i)key(?!s?pad|board)|token(?!izer)|secret|passw|credential|cookie|_auth|_pat$")
WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]+")


def named(texts: Iterable[str], environment: Mapping[str, str]) -> list[str]:
    """Variables that the project's own files name and whose name tells of no key."""
    words: set[str] = set()
    for text in texts:
        words.update(WORD.findall(text))
    return sorted(name for name in environment if name in words and not SECRET.search(name))


def allowed(environment: Mapping[str, str], more: Iterable[str]) -> dict[str, str]:
    """What a training may see of `environment`: the list above without keys, and `more`."""
    also = set(more)
    return {name: value for name, value in environment.items() if name in also or _usual(name)}


def _usual(name: str) -> bool:
    return name in NAMES or (name.startswith(FAMILIES) and not SECRET.search(name))
