"""What kind of machine a run had: two runs are compared only when it is the same one."""

from __future__ import annotations

import subprocess
from functools import cache

# For any POSIX shell; a run request carries the same lines, so that both sides use the same words.
KIND = r"""
machine_kind() {
  if gpus=$(nvidia-smi --query-gpu=name --format=csv,noheader 2>/dev/null) && [ -n "$gpus" ]; then
    printf '%s\n' "$gpus" | LC_ALL=C sort -u | tr '\n' ',' | sed 's/,$//; s/,/, /g'
    return
  fi
  cpu=$(sed -n 's/^model name[[:space:]]*:[[:space:]]*//p' /proc/cpuinfo 2>/dev/null | head -n 1)
  [ -n "$cpu" ] || cpu=$(sysctl -n machdep.cpu.brand_string 2>/dev/null)
  [ -n "$cpu" ] || cpu=$(uname -m)
  printf '%s, %s cores' "$cpu" "$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo '?')"
}
"""


@cache
def here() -> str:
    """The kind of this machine: its GPUs, else its processor and how many cores."""
    command = ["sh", "-c", KIND + "machine_kind"]
    try:
        done = subprocess.run(command, capture_output=True, timeout=20, check=False, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return " ".join(done.stdout.decode("utf-8", "replace").split())
