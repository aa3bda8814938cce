"""The store: artifacts with a pedigree, and the runs that made them. The only module that knows paths.

    ROOT/artifacts/ID/       manifest.json and the artifact's files; complete by construction, never changed
    ROOT/work/ID/            an artifact being made; survives a kill, so training resumes from its checkpoints
    ROOT/locks/ID            held while an artifact is made, released by the system when the process dies
    ROOT/references/         log-probabilities of starting models, by the hash of all that they follow from
    ROOT/runs/NAME-TIME/     what one `burnish run` did: recipe, settings with origins, plan, log, report
    ROOT/looks.json          how often each held-out suite was looked at

An artifact becomes visible by one rename of its finished folder, so there is no half-written artifact to find.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from burnish.errors import WorkspaceError
from burnish.log import note

MANIFEST = "manifest.json"
ATTEMPTS = "attempts.jsonl"
SCRATCH = "scratch"
"""The part of a work folder that is not published: checkpoints, and what a resumed step need not do again."""


STAMP = re.compile(r"-\d{8}-\d{6}-\d{3}$")
"""What stands behind a recipe's name in the name of its run: when it began, and a number for those of one second."""


def digest(*parts: Any) -> str:
    """Hex hash of JSON-able values, independent of the order of mapping keys."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def file_digest(path: Path) -> str:
    """Hex hash of a file's bytes, or of a folder's files and their names."""
    hasher = hashlib.blake2b(digest_size=16)
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    for file in files:
        if path.is_dir():
            hasher.update(f"{file.relative_to(path)}\0".encode())
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                hasher.update(block)
    return hasher.hexdigest()


def write_atomic(path: Path, text: str) -> None:
    """Write a file so that a reader, or a kill, sees the old content or the new and nothing between."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with draft.open("w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        draft.replace(path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise disk_error(error, path) from error


def disk_error(error: OSError, path: Path) -> WorkspaceError:
    """An operating-system error as one the user can act on."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return WorkspaceError(
            f"the disk is full: could not write {path.name}",
            where=str(path.parent),
            hint="free some space or choose another store with --store; finished steps are kept, run the command again",
        )
    return WorkspaceError(f"cannot use {path.name}: {error.strerror or error}", where=str(path.parent))


def _disk_is_full(error: BaseException | None) -> bool:
    """Whether an error, or one that it was raised from or during, says that the disk is full."""
    while error is not None:
        if os.strerror(errno.ENOSPC) in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


@dataclass(frozen=True)
class Manifest:
    """The pedigree of an artifact."""

    id: str
    kind: str
    use: str
    """The step type that made it."""
    step: str
    """The step's name in the recipe that made it first."""
    config: dict[str, Any]
    inputs: dict[str, list[str]]
    """Input name -> artifact ids, or content hashes of files and models from outside the store."""
    seed: int
    code: str
    versions: dict[str, str]
    phase: str
    seconds: float
    """Wall time of all attempts, killed ones included."""
    usage: dict[str, int]
    """prompt_tokens, completion_tokens, trained_tokens, calls."""
    made_at: str
    attempts: int = 1
    template: str = ""
    """Hash of the chat template, where one was used."""
    certified: list[str] = field(default_factory=list)
    """Ids of the suites that this data was checked against."""
    summary: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Artifact:
    """A finished result in the store."""

    path: Path
    manifest: Manifest

    @property
    def id(self) -> str:
        return self.manifest.id

    def file(self, name: str) -> Path:
        return self.path / name


class Building:
    """An artifact being made: its folder, and what its manifest will say."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manifest: Manifest | None = None


class Workspace:
    """A store in one folder. Several processes may use it at once."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        try:
            for part in ("artifacts", "work", "locks", "runs"):
                (self.root / part).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise disk_error(error, self.root) from error

    # -- artifacts

    @property
    def responses(self) -> Path:
        """The file of answers that models gave, so that none is computed twice. It only saves time."""
        return self.root / "responses.sqlite"

    @property
    def references(self) -> Path:
        """The folder of what starting models gave their rows, so that other losses and seeds need not compute it."""
        return self.root / "references"

    def find(self, artifact_id: str) -> Artifact | None:
        """The finished artifact of this id, or None. Raises WorkspaceError when its manifest is damaged."""
        path = self.root / "artifacts" / artifact_id
        return self._read(path) if path.is_dir() else None

    def _read(self, path: Path) -> Artifact:
        try:
            manifest = Manifest(**json.loads((path / MANIFEST).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            hint = "remove this folder, and the next run makes it again"
            raise WorkspaceError(f"damaged artifact: {error}", where=str(path), hint=hint) from None
        return Artifact(path, manifest)

    def artifacts(self) -> list[Artifact]:
        """All finished artifacts, the oldest first; damaged ones are told and left out."""
        found = []
        for path in (self.root / "artifacts").iterdir():
            try:
                found += [self._read(path)] if path.is_dir() else []
            except WorkspaceError as error:
                note(f"left out: {error.what} ({error.where})")
        return sorted(found, key=lambda artifact: (artifact.manifest.made_at, artifact.id))

    def unfinished(self, artifact_id: str) -> bool:
        """Whether an earlier attempt left work that can be resumed."""
        return (self.root / "work" / artifact_id).is_dir()

    @contextmanager
    def building(self, artifact_id: str) -> Iterator[Building]:
        """A folder to make the artifact in. The caller sets `manifest`; leaving the block without error publishes it.

        On an error the folder stays, so that the next attempt can resume from what is in it.
        """
        folder = self.root / "work" / artifact_id
        building = Building(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            yield building
            if building.manifest is None:
                raise AssertionError("an artifact was built without a manifest")
            text = json.dumps(asdict(building.manifest), indent=2, ensure_ascii=False)
            write_atomic(folder / MANIFEST, text + "\n")
            # Last of all: until the rename a killed attempt must find its checkpoint.
            (folder / ATTEMPTS).unlink(missing_ok=True)
            shutil.rmtree(folder / SCRATCH, ignore_errors=True)
            _sync(folder)
            folder.rename(self.root / "artifacts" / artifact_id)
        except OSError as error:
            raise disk_error(error, Path(error.filename or folder)) from error
        except Exception as error:
            if _disk_is_full(error):  # libraries that write files have errors of their own
                raise disk_error(OSError(errno.ENOSPC, ""), folder) from error
            raise

    @contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """Hold a named lock among all processes that use this store; waits, and says so, while another has it."""
        with (self.root / "locks" / name).open("w") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                note(f"waiting: another run is making {name}")
                fcntl.flock(stream, fcntl.LOCK_EX)
            yield

    # -- held-out looks

    def looks(self, suite_id: str) -> int:
        """How often a suite's items have been scored by a trained model so far."""
        return int(self._looks().get(suite_id, {}).get("spent", 0))

    def allowed_looks(self, suite_id: str) -> int | None:
        """How many looks a recipe has allowed; None when none has held the suite out so far."""
        allowed: int | None = self._looks().get(suite_id, {}).get("allowed")
        return allowed

    def count_look(self, suite_id: str, allowed: int) -> int:
        """Spend one look and return the number spent. Raises WorkspaceError when none is left."""
        with self.lock("looks"):
            counts = self._looks()
            spent = int(counts.get(suite_id, {}).get("spent", 0))
            if spent >= allowed:
                raise WorkspaceError(
                    f"the held-out suite {suite_id} was looked at {spent} times, and {allowed} looks are allowed",
                    where=str(self.root / "looks.json"),
                    hint="decide on the dev suite; each further look would turn the held-out suite into a dev suite",
                )
            counts[suite_id] = {"spent": spent + 1, "allowed": allowed}
            write_atomic(self.root / "looks.json", json.dumps(counts, indent=2) + "\n")
            return spent + 1

    def _looks(self) -> dict[str, Any]:
        path = self.root / "looks.json"
        kept = dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}
        return {name: {"spent": one} if isinstance(one, int) else one for name, one in kept.items()}  # once a number

    # -- runs

    def new_run(self, name: str) -> Path:
        """A fresh folder for a run; its name sorts by time."""
        stamp = time.strftime("%Y%m%d-%H%M%S")
        for count in range(1000):
            folder = self.root / "runs" / f"{name}-{stamp}-{count:03d}"
            try:
                folder.mkdir(parents=True)
                return folder
            except FileExistsError:
                continue
            except OSError as error:
                raise disk_error(error, folder) from error
        raise WorkspaceError("too many runs in one second", where=str(self.root / "runs"))

    def runs(self) -> list[Path]:
        """The run folders, the oldest first."""
        folders = [path for path in (self.root / "runs").iterdir() if (path / "plan.json").exists()]
        return sorted(folders, key=_begun)

    def run(self, name: str = "") -> Path:
        """The run folder of this name, or the newest run of the recipe of this name, or the newest run for no name.

        Raises WorkspaceError when there is none.
        """
        folders = self.runs()
        matches = [path for path in folders if name in ("", path.name, STAMP.sub("", path.name))]
        if not matches:
            known = ", ".join(path.name for path in folders[-5:]) or "none yet"
            raise WorkspaceError(f"no run '{name}'" if name else "no runs yet", where=str(self.root / "runs"),
                                 hint=f"runs: {known}")  # fmt: skip
        return matches[-1]


def _begun(run: Path) -> tuple[str, str]:
    """When a run began, from its name: writing into its folder later makes it no newer."""
    found = STAMP.search(run.name)
    return (found[0] if found else "", run.name)


def begin_attempt(folder: Path) -> tuple[float, int]:
    """Note the start of an attempt; returns the seconds spent by earlier, killed attempts and this attempt's number.

    A killed attempt cannot say when it ended: the newest file it wrote tells until when it worked at least.
    """
    log = folder / ATTEMPTS
    now = time.time()
    starts = [json.loads(line)["start"] for line in log.read_text().splitlines()] if log.exists() else []
    spent = 0.0
    if starts:
        newest = max((file.stat().st_mtime for file in folder.rglob("*") if file.is_file()), default=now)
        spent = json.loads(log.read_text().splitlines()[-1])["spent"] + max(0.0, newest - starts[-1])
    with log.open("a") as stream:
        stream.write(json.dumps({"start": now, "spent": spent}) + "\n")
    return spent, len(starts) + 1


def _sync(folder: Path) -> None:
    """Bring a folder's files to the disk before its rename makes them visible."""
    for path in [*folder.rglob("*"), folder]:
        if path.is_file() or path.is_dir():
            handle = os.open(path, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
