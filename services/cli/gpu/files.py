"""Writes a plan as the files that start it."""

from pathlib import Path

from services.cli.gpu.compose_file import compose_file
from services.cli.gpu.overlay import overlay_files
from services.cli.gpu.plan import Plan
from shared.errors import Conflict, NotFound

_COMPOSE, _OVERLAY = Path("docker-compose.vllm.yml"), Path("k8s/overlays/vllm")
_MARK = "Written by `signalbox gpu plan"
"""What the first line of each written file says: no other file is written over."""


def write_plan(plan: Plan, target: str, to: Path | None) -> tuple[Path, str]:
    """Write the files; returns their place and how to start them.

    Raises `NotFound` where the deployment's own files are not here, and `Conflict` where a file is another's.
    """
    return _write_compose(plan, to or _COMPOSE) if target == "compose" else _write_overlay(plan, to or _OVERLAY)


def _write_compose(plan: Plan, file: Path) -> tuple[Path, str]:
    system = file.parent / "docker-compose.yml"
    if not system.is_file():
        raise _not_here(system)
    _check_own(file)
    file.write_text(compose_file(plan, system.read_text()))
    return file, f"docker compose -f {system} -f {file} up --build --wait --remove-orphans"


def _write_overlay(plan: Plan, folder: Path) -> tuple[Path, str]:
    component = folder.parent.parent / "components" / "vllm"
    if not component.is_dir():
        raise _not_here(component)
    _check_own(folder / "kustomization.yaml")
    groups = folder / "groups"
    for file in sorted(groups.glob("*/*.yaml")) if groups.is_dir() else ():  # those of an earlier plan
        file.unlink()
    for name, text in overlay_files(plan).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder, f"kubectl apply -k {folder}"


def _check_own(file: Path) -> None:
    if file.exists() and _MARK not in file.read_text().partition("\n")[0]:
        raise Conflict("file_exists", f"{file} was not written by a plan: name another one with --to, or remove it")


def _not_here(path: Path) -> NotFound:
    return NotFound("deployment_not_here", f"{path} is not here: call it in the folder of Signalbox's files")
