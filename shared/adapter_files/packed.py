"""The adapter's files of an archive, kept apart by their folder there until it is known which folder is the adapter."""

from collections.abc import Collection
from pathlib import Path

from shared.adapter_files.folder import CONFIG_NAME, INITIAL_NAME, WEIGHTS_NAME, check_complete
from shared.errors import Invalid

_MAX_FOLDERS = 8
_INITIAL = "init"
"""What the names of folders of adapters before their training hold: `pissa_init`, `initial`."""


class Packed:
    """Folders of an archive that hold files of adapters."""

    def __init__(self, into: Path) -> None:
        self._into = into
        self._names: dict[str, set[str]] = {}

    def target(self, folder: str, name: str) -> Path:
        """Return where to write a file; raises `Invalid` for one that comes twice, and for too many folders."""
        names = self._names.setdefault(folder, set())
        if name in names:
            raise unsafe(f"{f'{folder}/{name}'.lstrip('/')[:128]!r} comes twice")
        if len(self._names) > _MAX_FOLDERS:
            raise self._several([*self._names])
        names.add(name)
        place = self._place(folder)
        place.mkdir(exist_ok=True)
        return place / name

    def settle(self, passed_over: Collection[str]) -> None:
        """Move the adapter's files up, and those of the adapter before its training; raises `Invalid`."""
        whole = [folder for folder, names in self._names.items() if len(names) == len({CONFIG_NAME, WEIGHTS_NAME})]
        if not whole:
            if len(self._names) > 1:
                first, second, *_ = (repr(folder[:128]) for folder in self._names)
                raise unsafe(f"its files lie in different folders, {first} and {second}")
            check_complete([*passed_over, *(name for names in self._names.values() for name in names)])
        initial = [folder for folder in whole if any(_is_initial(folder, other) for other in whole)]
        adapters = [folder for folder in whole if folder not in initial]
        if len(adapters) != 1 or len(initial) > 1:
            raise self._several(adapters if len(adapters) != 1 else whole)
        self._move(adapters[0], self._into)
        for folder in initial:
            self._place(folder).rename(self._into / INITIAL_NAME)
        self._drop_rest()

    def _place(self, folder: str) -> Path:
        return self._into / f"folder-{list(self._names).index(folder)}"

    def _move(self, folder: str, to: Path) -> None:
        for file in self._place(folder).iterdir():
            file.rename(to / file.name)

    def _drop_rest(self) -> None:
        for place in self._into.glob("folder-*"):
            for file in place.iterdir():
                file.unlink()
            place.rmdir()

    def _several(self, folders: Collection[str]) -> Invalid:
        named = " and ".join(repr(folder[:128] or ".") for folder in sorted(folders)[:4])
        return Invalid(
            "adapter_archive_of_several",
            f"the archive holds several adapters, in {named}: send each in its own archive",
        )


def unsafe(reason: str) -> Invalid:
    """Return the refusal of an archive that no honest tool packs."""
    return Invalid("adapter_archive_unsafe", f"the archive is refused: {reason}; pack the two adapter files plainly")


def _is_initial(folder: str, other: str) -> bool:
    """Whether a folder is that of the adapter before its training, inside the folder of the trained one."""
    inside = folder != other and (not other or folder.startswith(f"{other}/"))
    return inside and _INITIAL in folder.removeprefix(other).lower()
