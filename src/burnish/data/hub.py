"""Data sets of the Hub, as the files of one split."""

from __future__ import annotations

from pathlib import Path

from burnish.errors import DataError

KINDS = ("parquet", "jsonl", "json", "csv")


def on_hub(name: str) -> bool:
    """Whether a name reads as `owner/name` and is nothing on this machine."""
    return name.count("/") == 1 and not (Path(name).exists() or Path(name).suffix or name.startswith((".", "/")))


def hub_files(name: str, split: str) -> list[Path]:
    """The files of a split, downloaded once. Of several configurations `main` or `default` is taken, else the first.

    Raises DataError when the Hub cannot give them, or has no file of that split.
    """
    from huggingface_hub import snapshot_download

    try:
        folder = Path(
            snapshot_download(name, repo_type="dataset", allow_patterns=[f"*{split}*.{kind}" for kind in KINDS])
        )
    except Exception as error:  # no network, no such data set, no access: each with an error of its own
        first = str(error).strip().partition("\n")[0]
        raise DataError(f"cannot get {name} from the Hub: {first}", where=name,
                        hint="give the path of a local file, or check the name and the network") from None  # fmt: skip
    found = [file for kind in KINDS for file in sorted(folder.rglob(f"*{split}*.{kind}"))]
    if not found:
        raise DataError(f"{name} has no files of the split '{split}'", where=name, hint="name another split")
    folders = sorted(
        {file.parent for file in found}, key=lambda one: (one.name not in ("main", "default", "data"), one)
    )
    return [file for file in found if file.parent == folders[0] and file.suffix == found[0].suffix]
