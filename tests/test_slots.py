"""Slots of one machine: which there are, who has which, and what several runs at once do to a campaign."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from world import ENTRY, PREPARE, a_project

from lab import gpus, occupancy, slots
from lab.errors import LabError
from lab.slots import Slot

SCRIPTS = ENTRY.parent
# As the programs print them, one machine each.
TWO = """GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-5d5ba0d6-d33d-2b2c-524d-9e3d8d2b8a77)
GPU 1: NVIDIA H100 80GB HBM3 (UUID: GPU-11c5ba9a-2fb6-4e0b-8d0b-5ce1b6b3a2f0)
"""
MIXED = TWO + "GPU 2: NVIDIA A100-SXM4-40GB (UUID: GPU-77aa0d6c-d33d-2b2c-524d-9e3d8d2b8a00)\n"
SPLIT = """GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-5d5ba0d6-d33d-2b2c-524d-9e3d8d2b8a77)
  MIG 3g.20gb     Device  0: (UUID: MIG-c6d4f1ef-42e4-5de3-91c7-45d71c87eb3f)
  MIG 3g.20gb     Device  1: (UUID: MIG-cba663e8-9bed-5b25-b243-5985ef7c9beb)
GPU 1: NVIDIA A100-SXM4-40GB (UUID: GPU-11c5ba9a-2fb6-4e0b-8d0b-5ce1b6b3a2f0)
"""
APPS = """GPU-5d5ba0d6-d33d-2b2c-524d-9e3d8d2b8a77, 4242, /opt/conda/bin/python, 30512
GPU-5d5ba0d6-d33d-2b2c-524d-9e3d8d2b8a77, 900, /usr/lib/xorg/Xorg, 84
GPU-11c5ba9a-2fb6-4e0b-8d0b-5ce1b6b3a2f0, 77, /usr/bin/llama server, [N/A]
"""
ROCM = {
    "card0": {"Unique ID": "0x8f3d1a2b3c4d5e6f", "Card Series": "AMD Instinct MI300X"},
    "card1": {"Unique ID": "0x18f3d1a2b3c4d5e6", "Card Series": "AMD Instinct MI300X"},
    "system": {"Driver version": "6.7.0"},
}


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Put programs on the PATH that print what the drivers' tools do."""
    folder = tmp_path / "tools"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    for name in gpus_variables():
        monkeypatch.delenv(name, raising=False)

    def put(name: str, listed: str, apps: str = "") -> None:
        (folder / f"{name}.listed").write_text(listed)
        (folder / f"{name}.apps").write_text(apps)
        program = folder / name
        program.write_text(
            f'#!/bin/sh\necho called >> {folder}/calls\ncase "$*" in\n'
            f"*compute-apps*) cat {folder}/{name}.apps;;\n*) cat {folder}/{name}.listed;;\nesac\n"
        )
        program.chmod(0o755)

    return put


def gpus_variables() -> tuple[str, ...]:
    return ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES")


# -- which slots there are ---------------------------------------------------------------------------


def test_each_gpu_is_a_slot_by_its_id(tools: Callable[..., None]) -> None:
    tools("nvidia-smi", TWO)
    found = slots.slots(None, {})
    assert [slot.name for slot in found] == ["GPU 0", "GPU 1"]
    assert found[1].env == {"CUDA_VISIBLE_DEVICES": "GPU-11c5ba9a-2fb6-4e0b-8d0b-5ce1b6b3a2f0"}
    assert found[0].locks != found[1].locks


def test_a_gpu_that_is_split_up_gives_a_slot_for_each_part(tools: Callable[..., None]) -> None:
    tools("nvidia-smi", SPLIT)
    every = slots.slots(("0:0", "0:1", "1"), {})
    assert [slot.env["CUDA_VISIBLE_DEVICES"][:8] for slot in every] == ["MIG-c6d4", "MIG-cba6", "GPU-11c5"]
    assert [slot.name for slot in slots.slots(None, {})] == ["GPU 0:0", "GPU 0:1"], "of one model only"


def test_numbers_of_different_models_are_not_mixed(tools: Callable[..., None]) -> None:
    tools("nvidia-smi", MIXED)
    assert [slot.name for slot in slots.slots(None, {})] == ["GPU 0", "GPU 1"]
    assert [slot.name for slot in slots.slots(("2",), {})] == ["GPU 2"]


@pytest.mark.parametrize(
    ("shown", "expected"),
    [("1", ["1"]), ("1,0", ["1", "0"]), ("GPU-5d5b", ["0"]), ("", []), ("-1", []), ("0,7,1", ["0"])],
)
def test_the_environment_narrows_what_is_there(
    tools: Callable[..., None], shown: str, expected: list[str]
) -> None:
    tools("nvidia-smi", TWO)
    assert [gpu.index for gpu in gpus.gpus({"CUDA_VISIBLE_DEVICES": shown})] == expected


def test_a_program_that_uses_every_gpu_gets_all_in_one_slot(tools: Callable[..., None]) -> None:
    tools("nvidia-smi", TWO)
    (slot,) = slots.slots(None, {}, ["torchrun", "--nproc-per-node", "2", "train.py"])
    assert slot.env["CUDA_VISIBLE_DEVICES"].count("GPU-") == 2 and len(slot.locks) == 2


def test_a_list_names_groups_and_lets_runs_share_a_gpu(tools: Callable[..., None]) -> None:
    tools("nvidia-smi", TWO)
    (both,) = slots.slots(("0,1",), {})
    assert len(both.locks) == 2
    one, other = slots.slots(("0", "0"), {})
    assert one.env == other.env and one.locks != other.locks
    with pytest.raises(LabError, match="'5', which is no GPU here"):
        slots.slots(("5",), {})
    with pytest.raises(LabError, match="there are 2 GPUs"):
        slots.slots(3, {})


def test_amd_devices_are_found_by_their_tool_or_by_the_kernel(
    tools: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tools("rocm-smi", json.dumps(ROCM))
    found = slots.slots(None, {})
    assert [slot.env for slot in found] == [{"HIP_VISIBLE_DEVICES": "0"}, {"HIP_VISIBLE_DEVICES": "1"}]
    assert found[0].locks == ("0x8f3d1a2b3c4d5e6f",)
    tools("rocm-smi", "not JSON")
    nodes = tmp_path / "nodes"
    for node, facts in {
        "0": "simd_count 0\nunique_id 0\n",
        "1": "simd_count 304\nunique_id 12297829382\n",
    }.items():
        (nodes / node).mkdir(parents=True)
        (nodes / node / "properties").write_text(facts)
    monkeypatch.setattr(gpus, "KFD", nodes)
    (slot,) = slots.slots(None, {})
    assert slot.env == {"HIP_VISIBLE_DEVICES": "0"} and slot.locks == (hex(12297829382),)


def test_a_tool_that_fails_or_lies_is_no_gpu(tools: Callable[..., None]) -> None:
    tools("nvidia-smi", "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.\n")
    assert gpus.gpus({}) == [] and slots.slots(None, {}) == []


def test_the_tools_are_asked_once_a_start_of_the_machine(tools: Callable[..., None], tmp_path: Path) -> None:
    tools("nvidia-smi", TWO)
    calls = tmp_path / "tools" / "calls"
    first = slots.remembered(tmp_path, None, {})
    asked = len(calls.read_text().splitlines())
    assert slots.remembered(tmp_path, None, {}) == first
    assert len(calls.read_text().splitlines()) == asked
    assert len(slots.remembered(tmp_path, None, {"CUDA_VISIBLE_DEVICES": "0"})) == 1
    (tmp_path / "slots.json").write_text('{"key"')
    assert slots.remembered(tmp_path, None, {}) == first


def test_programs_that_hold_much_of_a_gpu_are_named(tools: Callable[..., None]) -> None:
    tools("nvidia-smi", TWO, APPS)
    found = gpus.guests()
    assert [(guest.pid, guest.used_mb) for guest in found] == [(4242, 30512.0), (77, None)]
    assert found[0].words == "python (pid 4242) with 29.8 GB"


def test_cores_are_divided_among_the_slots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots, "gpus", lambda environ: [])
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2, 3, 4, 5, 6, 7}, raising=False)
    found = slots.slots(3, {})
    assert sorted(core for slot in found for core in slot.cores) == list(range(8))
    assert [slot.env["OMP_NUM_THREADS"] for slot in found] == ["2", "3", "3"]
    more = slots.slots(12, {})
    assert len({slot.locks for slot in more}) == 12 and {len(slot.cores) for slot in more} == {1}
    assert slots.slots(None, {}) == []


def test_what_the_command_sets_counts_but_for_the_device() -> None:
    slot = Slot("GPU 1", ("x",), {"CUDA_VISIBLE_DEVICES": "GPU-1", "OMP_NUM_THREADS": "2"})
    own = {"CUDA_VISIBLE_DEVICES": "0,1", "OMP_NUM_THREADS": "7", "SEED": "42"}
    assert slot.environment(own) == {"CUDA_VISIBLE_DEVICES": "GPU-1", "OMP_NUM_THREADS": "7", "SEED": "42"}


# -- who has which -----------------------------------------------------------------------------------


def test_a_device_has_one_holder_who_is_named(tmp_path: Path) -> None:
    one, both = Slot("GPU 0", ("a",)), Slot("GPU 0, GPU 1", ("b", "a"))
    held = occupancy.take(one, tmp_path, "e001.1 of here")
    assert isinstance(held, list)
    assert occupancy.take(both, tmp_path, "another") == "e001.1 of here"
    free = occupancy.take(Slot("GPU 1", ("b",)), tmp_path, "third")
    assert isinstance(free, list), "what could not be had whole is given back"
    for descriptor in held:
        os.close(descriptor)
    assert isinstance(occupancy.take(one, tmp_path, "next"), list)


def test_a_link_in_the_place_of_a_lock_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("mine")
    (tmp_path / "a.lock").symlink_to(tmp_path / "precious")
    with pytest.raises(OSError):
        occupancy.take(Slot("GPU 0", ("a",)), tmp_path, "e001.1")
    assert (tmp_path / "precious").read_text() == "mine"


def test_the_folder_of_the_locks_is_everybodys_or_ones_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = tmp_path / "slots"
    monkeypatch.setattr(occupancy, "SHARED", shared)
    assert occupancy.folder({}) == shared
    assert stat.S_IMODE(shared.stat().st_mode) == 0o1777
    shared.rmdir()
    (tmp_path / "trap").mkdir()
    shared.symlink_to(tmp_path / "trap")
    own = occupancy.folder({})
    assert own == tmp_path / f"slots-{os.geteuid()}" and stat.S_IMODE(own.stat().st_mode) == 0o700
    assert occupancy.folder({"AUTORESEARCH_SLOTS": str(tmp_path / "said")}) == tmp_path / "said"
    own.rmdir()
    own.symlink_to(tmp_path / "trap")
    with pytest.raises(OSError, match="belongs to somebody else"):
        occupancy.folder({})


def test_a_killed_holder_frees_its_device(tmp_path: Path) -> None:
    code = (
        "import sys, time; sys.path.insert(0, sys.argv[1])\n"
        "from pathlib import Path\nfrom lab import occupancy\nfrom lab.slots import Slot\n"
        "held = occupancy.take(Slot('GPU 0', ('a',)), Path(sys.argv[2]), 'e001.1')\n"
        "print('held', flush=True)\ntime.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(SCRIPTS), str(tmp_path)], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout and process.stdout.readline() == b"held\n"
        assert occupancy.take(Slot("GPU 0", ("a",)), tmp_path, "other") == "e001.1"
        process.kill()
    assert isinstance(occupancy.take(Slot("GPU 0", ("a",)), tmp_path, "other"), list)


def test_the_doctor_names_the_slots_and_who_else_uses_them(
    tools: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tools("nvidia-smi", TWO, APPS)
    world = a_project(tmp_path / "p")
    world.ok("init", "--tag", "t1")
    (finding,) = [f for f in world.ok("doctor")["checks"] if f["name"] == "device"]
    assert finding["text"].startswith("2 slots: GPU 0, GPU 1; in use by python (pid 4242) with 29.8 GB")
    assert "when_busy: wait" in finding["fix"]
    world.edit("slots: auto", "slots: [5]", "autoresearch.yaml")
    (finding,) = [f for f in world.run("--json", "doctor").json["checks"] if f["name"] == "device"]
    assert finding["ok"] is False and "'5', which is no GPU here" in finding["text"]


LARGE = """import os, sys
SIZE = 1
print("budget", os.environ["AUTORESEARCH_BUDGET"], os.environ.get("AUTORESEARCH_PREFLIGHT"), sys.argv[1:])
open(os.path.join(os.environ["AUTORESEARCH_RUN_DIR"], "left.txt"), "a").write("x")
if SIZE > 1:
    raise RuntimeError("CUDA out of memory. Tried to allocate 9.00 GiB")
print("---")
print("val_bpb: 1.0")
"""


def test_a_preflight_shows_a_lack_of_memory_before_the_clock_runs(tmp_path: Path) -> None:
    world = a_project(tmp_path / "p", {"train.py": LARGE, "prepare.py": PREPARE})
    world.ok("init", "--tag", "t1", "--metric", "val_bpb", "--goal", "min", "--budget", "5")
    world.edit("slots: auto", 'slots: auto, preflight: "--steps 1"', "autoresearch.yaml")
    assert world.ok("baseline", "--repeats", "1")["verdict"] == "keep"
    runs = world.root / ".autoresearch" / "runs"
    assert (runs / "e000.1" / "run.log").read_text().startswith("budget 5 None []")
    assert (runs / "e000.1" / "left.txt").read_text() == "x", "the start before it left nothing"
    world.edit("SIZE = 1", "SIZE = 2")
    tried = world.ok("try", "larger")
    assert (tried["verdict"], tried["crash"]["kind"]) == ("crash", "oom")
    assert (runs / "e001.1" / "run.log").read_text().startswith("budget 1 1 ['--steps', '1']")
    (ended,) = [r for r in world.records() if r["event"] == "run_ended" and r["run"] == "e001.1"]
    assert ended["detail"].startswith("in the preflight, before its clock")
