"""A scripted agent program for `drive`: each session takes the next mood from a file and behaves like it.

    driven_agent.py FOLDER MESSAGE

FOLDER holds `moods`, one a line: a word and how many experiments it makes first. With no mood left it works
to the end. It answers with what the real programs print, and leaves its messages in FOLDER/told.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

ENTRY = Path(__file__).resolve().parents[1] / "skills" / "autoresearch" / "scripts" / "autoresearch.py"


def tool(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ENTRY), "--json", *words]
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)


def experiment() -> bool:
    """Make one; False when the budget is spent."""
    train = Path("train.py")
    status = json.loads(tool("status").stdout)
    number = sum(status["experiments"].values())
    # Every third one is better: constants only, and each another one.
    value = 1.0 - 0.01 * (number // 3) + (0.2 + number / 1000 if number % 3 else 0.0)
    train.write_text(re.sub(r"(?m)^LR = \S+", f"LR = {value:.4f}", train.read_text()))
    answer = tool("try", f"rate {value:.4f}", "--wait", "600")
    while answer.returncode == 8:  # the driver has the campaign for a moment
        answer = tool("try", f"rate {value:.4f}", "--wait", "600")
    assert answer.returncode in (0, 4, 9), answer.stdout + answer.stderr
    return answer.returncode != 9


def close() -> None:
    """What the skill says at the end."""
    tool("finish")


def main() -> int:
    folder, message = Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else sys.stdin.read()
    with (folder / "told").open("a") as file:
        file.write(json.dumps({"message": message, "cwd": str(Path.cwd()), "pid": os.getpid()}) + "\n")
    if "Start no new experiment" in message:
        close()
        return 0
    moods = (folder / "moods").read_text().split("\n")
    (folder / "moods").write_text("\n".join(moods[1:]))
    word, _, count = (moods[0] or "work 1000").partition(" ")
    for _ in range(int(count or 0)):
        if not experiment():
            close()
            break
    return MOODS[word]()


def hang() -> int:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # only KILL ends it
    print("thinking", flush=True)
    time.sleep(600)
    return 0


def lie() -> int:
    print("All 30 experiments are done, the campaign is finished and val_bpb is 0.1234. Verdict: KEEP.")
    return 0


def limit() -> int:
    print(json.dumps({"type": "result", "subtype": "success", "is_error": True, "total_cost_usd": 0,
                      "result": "You've hit your limit. Please try again in 1 second"}))  # fmt: skip
    return 1


def kill() -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return 0


def crash() -> int:
    Path("train.py").write_text("LR = an edit that was never fini")  # in the middle of an edit
    raise RuntimeError("the agent program fell over")


def paid() -> int:
    usage = {"input_tokens": 1000, "output_tokens": 200, "cache_read_input_tokens": 50_000}
    print(json.dumps({"type": "result", "is_error": False, "total_cost_usd": 0.25, "usage": usage}))
    return 0


MOODS = {"work": lambda: 0, "exit": lambda: 0, "hang": hang, "lie": lie, "limit": limit, "kill": kill,
         "crash": crash, "paid": paid}  # fmt: skip

if __name__ == "__main__":
    raise SystemExit(main())
