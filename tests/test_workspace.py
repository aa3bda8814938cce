"""The store: nothing half-written, nothing lost, two runs at once."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from burnish.errors import WorkspaceError
from burnish.workspace import Manifest, Workspace, begin_attempt, digest, file_digest, write_atomic


def manifest(artifact_id: str = "dataset-1", **changes: object) -> Manifest:
    values: dict[str, object] = {
        "id": artifact_id, "kind": "dataset", "use": "ingest", "step": "chats", "config": {}, "inputs": {}, "seed": 0,
        "code": "c", "versions": {}, "phase": "data", "seconds": 1.0, "usage": {}, "made_at": "2026-01-01T00:00:00",
    }  # fmt: skip
    return Manifest(**{**values, **changes})  # type: ignore[arg-type]


def make(store: Workspace, artifact_id: str = "dataset-1") -> None:
    with store.building(artifact_id) as building:
        (building.folder / "rows.jsonl").write_text("{}\n")
        building.manifest = manifest(artifact_id)


def test_digest_ignores_the_order_of_keys() -> None:
    assert digest({"a": 1, "b": [2]}) == digest({"b": [2], "a": 1})
    assert digest({"a": 1}) != digest({"a": 2})


def test_file_digest_of_a_folder_sees_names_and_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    first = file_digest(tmp_path)
    (tmp_path / "a").rename(tmp_path / "b")
    assert file_digest(tmp_path) != first


def test_an_artifact_appears_whole(tmp_path: Path) -> None:
    store = Workspace(tmp_path)
    assert store.find("dataset-1") is None
    make(store)
    found = store.find("dataset-1")
    assert found is not None and found.manifest == manifest()
    assert found.file("rows.jsonl").read_text() == "{}\n"
    assert not store.unfinished("dataset-1")


def test_a_failed_step_leaves_no_artifact_and_keeps_its_work(tmp_path: Path) -> None:
    store = Workspace(tmp_path)
    with pytest.raises(RuntimeError, match="power"), store.building("dataset-1") as building:
        (building.folder / "checkpoint").write_text("half")
        raise RuntimeError("power failed")
    assert store.find("dataset-1") is None and store.unfinished("dataset-1")
    with store.building("dataset-1") as building:
        assert (building.folder / "checkpoint").read_text() == "half"
        building.manifest = manifest()
    assert store.find("dataset-1") is not None


def test_a_full_disk_is_said(tmp_path: Path) -> None:
    store = Workspace(tmp_path)
    with pytest.raises(WorkspaceError) as caught, store.building("dataset-1"):
        raise OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "x"))
    assert "disk is full" in caught.value.what and "--store" in caught.value.hint


def test_a_really_full_device_leaves_the_old_file(tmp_path: Path) -> None:
    # /dev/full refuses every write with ENOSPC: the error of a full disk, from the kernel itself.
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    target = tmp_path / "settings.json"
    target.write_text("old")
    (tmp_path / f".settings.json.{os.getpid()}").symlink_to("/dev/full")
    with pytest.raises(WorkspaceError, match="disk is full"):
        write_atomic(target, "new")
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_damaged_manifest_is_named(tmp_path: Path) -> None:
    store = Workspace(tmp_path)
    make(store)
    (tmp_path / "artifacts" / "dataset-1" / "manifest.json").write_text("{")
    with pytest.raises(WorkspaceError) as caught:
        store.find("dataset-1")
    assert "dataset-1" in caught.value.where


HOLD = """
import sys, time
from pathlib import Path
from burnish.workspace import Workspace
with Workspace(Path(sys.argv[1])).lock("x"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_lock_holds_among_processes_and_dies_with_its_holder(tmp_path: Path) -> None:
    other = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None and other.stdout.readline() == "held\n"
    threading.Timer(0.3, other.kill).start()
    began = time.monotonic()
    with Workspace(tmp_path).lock("x"):
        waited = time.monotonic() - began
    other.wait()
    other.stdout.close()
    assert 0.2 < waited < 30


def test_held_out_looks_are_counted_and_end(tmp_path: Path) -> None:
    store = Workspace(tmp_path)
    assert [store.count_look("suite-1", 2), store.count_look("suite-1", 2)] == [1, 2]
    with pytest.raises(WorkspaceError, match="looked at 2 times"):
        store.count_look("suite-1", 2)
    assert store.looks("suite-1") == 2 and store.looks("suite-2") == 0
    assert store.allowed_looks("suite-1") == 2 and store.allowed_looks("suite-2") is None
    (tmp_path / "looks.json").write_text('{"suite-3": 1}')  # as stores were written before
    assert store.looks("suite-3") == 1 and store.allowed_looks("suite-3") is None


def test_time_of_killed_attempts_is_kept(tmp_path: Path) -> None:
    # The first attempt began 100 s before its last file was written, then died; the second adds to that.
    assert begin_attempt(tmp_path)[1] == 1
    log = tmp_path / "attempts.jsonl"
    start = json.loads(log.read_text())["start"]
    log.write_text(json.dumps({"start": start - 100, "spent": 0.0}) + "\n")
    (tmp_path / "checkpoint").write_text("x")
    spent, number = begin_attempt(tmp_path)
    assert number == 2 and 100 <= spent < 110


def test_runs_are_found_by_name_by_recipe_and_by_time(tmp_path: Path) -> None:
    store = Workspace(tmp_path)
    with pytest.raises(WorkspaceError, match="no runs yet"):
        store.run()
    first, second = store.new_run("a"), store.new_run("b")
    for folder in (first, second):
        (folder / "plan.json").write_text("{}")
        time.sleep(0.01)
    assert store.run("a") == first and store.run() == second and store.run(first.name) == first
    with pytest.raises(WorkspaceError, match="no run 'c'"):
        store.run("c")
