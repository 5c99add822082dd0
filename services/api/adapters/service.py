"""Uploads of adapters: a thread checks the whole archive, then stores it."""

import asyncio
import contextlib
import hashlib
import tempfile
from collections.abc import AsyncIterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, BinaryIO, NamedTuple

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.datastructures import UploadFile

from services.api.adapters.remarks import check_named_base, files_note
from services.api.infra.base_models import base_of_upload
from services.api.infra.clients import Clients
from services.api.infra.stored import check_room
from services.api.training import service as training
from shared.adapter_files import (
    AdapterLimits,
    BaseShapes,
    Step,
    Steps,
    accept_adapter,
    adapter_digest,
    unpack_adapter,
)
from shared.adapter_files.steps import Checked
from shared.contracts.labels import LabelText, check_adapter_label
from shared.contracts.manifests import AdapterManifest, BaseModelManifest
from shared.errors import Invalid, NotFound, SignalboxError, Unavailable
from shared.security.api_keys import Key


class AdapterForm(BaseModel):
    """The form fields that accompany an archive."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    label: Annotated[LabelText, Field(max_length=65)]
    template: Annotated[str, Field(max_length=32)] = ""
    """How it was prompted in its training: a built-in template, `model` or one that an operator added; by default the
    base model's usual one."""
    chat_template: Annotated[str, Field(max_length=64, pattern=r"^([0-9a-f]{64})?$")] = ""
    """SHA-256 of the chat template in the adapter's folder, which is compared with known ones and never run."""
    examples: Annotated[str, Field(max_length=64)] = ""
    """Data set of right answers, by name or id: a job finds out by them which template the adapter was trained with."""
    instruction: Annotated[str, Field(max_length=20_000)] = ""
    """Used when a request has no instruction."""
    base_model: Annotated[str, Field(max_length=64, pattern=r"^[0-9a-z]*$")] = ""
    """Pin of the base model that it was trained on; needed only where workers serve several."""
    sha256: Annotated[str, Field(max_length=64, pattern=r"^([0-9a-f]{64})?$")] = ""
    """SHA-256 of the archive's bytes, or the adapter's digest."""
    confirm_base: bool = False
    """Take it although its config names another base model that is known here."""

    def check(self) -> None:
        """Raise `Invalid` for a wrong field, before the archive is read."""
        check_adapter_label(self.label)


class AdapterUpload(NamedTuple):
    """The form fields and the archive."""

    form: AdapterForm
    archive: BinaryIO
    sha256: str


class AdapterAdded(NamedTuple):
    """The stored version, and the checks that it has passed."""

    manifest: AdapterManifest
    checks: list[Checked]


class AdapterRefused(SignalboxError):
    """An upload that a check refuses: the error as it is, and with it how each check ended."""

    def __init__(self, error: SignalboxError, checks: list[Checked]) -> None:
        super().__init__(error.code, error.detail, retry_after_seconds=error.retry_after_seconds)
        self.status, self.retryable, self.checks = error.status, error.retryable, checks

    @property
    def members(self) -> dict[str, Any]:
        """What a caller is told besides."""
        return {"checks": views(self.checks)}


def views(checks: list[Checked]) -> list[dict[str, str]]:
    """Return the checks as JSON."""
    return [{"check": one.step, "says": one.step.says, "outcome": one.outcome} for one in checks]


@contextlib.asynccontextmanager
async def adapter_upload(request: Request) -> AsyncIterator[AdapterUpload]:
    """Read the form; its file is deleted at the end of the block. Raises `Invalid`, `RequestValidationError`."""
    async with request.form(max_files=1, max_fields=10) as fields:
        values = dict(fields)
        file = values.pop("file", None)
        if not isinstance(file, UploadFile):
            raise Invalid("file_missing", "the form has no file; send the archive as its field `file`")
        try:
            form = AdapterForm.model_validate(values)
        except ValidationError as error:
            wrong = [{**e, "loc": ("body", *e["loc"])} for e in error.errors()]
            raise RequestValidationError(wrong) from error
        form.check()
        yield AdapterUpload(form, file.file, await asyncio.to_thread(_sha256, file.file))


async def add_adapter(clients: Clients, caller: Key, upload: AdapterUpload) -> AdapterAdded:
    """Check an archive against the base model and store it; raises `AdapterRefused`, which says at which check."""
    steps = Steps()
    try:
        with steps.step(Step.TEMPLATE):
            await asyncio.to_thread(_check_names, clients, caller.tenant_id, upload.form)
            base_model = upload.form.base_model or await base_of_upload(clients, caller.tenant_id)
            base = await asyncio.to_thread(_base, clients, base_model)
            template = await asyncio.to_thread(_template, clients, caller.tenant_id, upload.form, base)
        manifest = await asyncio.to_thread(_add_adapter, clients, caller, upload, base, template, steps)
    except SignalboxError as error:
        raise AdapterRefused(error, steps.told()) from error
    return AdapterAdded(manifest, steps.told())


async def queue_check(clients: Clients, caller: Key, ref: str, examples: str) -> str:
    """Queue the job that finds out an adapter's template by examples; returns its id."""
    job, _ = await training.submit(clients, caller, training.AdapterCheckRequest(adapter=ref, dataset=examples), None)
    return job.id


def _check_names(clients: Clients, tenant_id: str, form: AdapterForm) -> None:
    """Raise `Invalid`, `NotFound` where there is no such template or data set, before the archive is read."""
    if form.template:
        clients.registry.templates.named(tenant_id, form.template)
    if form.examples:
        clients.registry.datasets.get(tenant_id, form.examples)


def _template(clients: Clients, tenant_id: str, form: AdapterForm, base: BaseModelManifest) -> str:
    return clients.registry.templates.for_base(tenant_id, form.template or base.usual_template, base).name


def _add_adapter(
    clients: Clients, caller: Key, upload: AdapterUpload, base: BaseModelManifest, template: str, steps: Steps
) -> AdapterManifest:
    form, limits = upload.form, AdapterLimits.of(clients.settings)
    with tempfile.TemporaryDirectory(prefix="signalbox-upload-") as scratch:
        with steps.step(Step.ARCHIVE):
            folder, passed_over = unpack_adapter(upload.archive, Path(scratch) / "adapter", limits.max_bytes)
        accepted = accept_adapter(folder, BaseShapes.from_dict(base.shapes), limits, steps)
        with steps.step(Step.BASE_MODEL):
            about_base = check_named_base(clients.registry.base_models, accepted.trained_on, base, form.confirm_base)
        with steps.step(Step.DIGEST):
            digest = adapter_digest(folder)
            _check_digest(form.sha256, upload.sha256, digest)
        with steps.step(Step.ROOM):
            check_room(clients, caller.tenant_id, digest, accepted.info.size_bytes)
        manifest = AdapterManifest(
            tenant_id=caller.tenant_id,
            label=form.label,
            version=0,
            digest=digest,
            base_model=base.id,
            template=template,
            instruction=form.instruction,
            info=asdict(accepted.info) | _folders_template(clients, caller.tenant_id, form.chat_template, base),
            notes=(*accepted.notes, *files_note(passed_over), *about_base.notes),
            archive=upload.sha256,
            base_confirmed_by=caller.id if about_base.is_another else "",
        )
        return clients.registry.adapters.add(folder, manifest)


def _folders_template(clients: Clients, tenant_id: str, sha256: str, base: BaseModelManifest) -> dict[str, Any]:
    """Return what is noted of the chat template in an adapter's folder: its digest, and its name where it is known."""
    if not sha256:
        return {}
    known = clients.registry.templates.by_jinja(tenant_id, sha256, base)
    return {"chat_template": {"sha256": sha256, "template": known or None}}


def _base(clients: Clients, base_model: str) -> BaseModelManifest:
    try:
        return clients.registry.base_models.get(base_model)
    except NotFound as error:
        raise Unavailable(
            "base_model_unknown", f"the shapes of base model {base_model} are not published yet; start a worker"
        ) from error


def _check_digest(expected: str, archive_digest: str, digest: str) -> None:
    if expected and expected not in (archive_digest, digest):
        raise Invalid(
            "adapter_digest_mismatch",
            f"the archive arrived as {archive_digest} (adapter {digest}), not {expected}; send it again",
        )


def _sha256(file: BinaryIO) -> str:
    digest = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type] # every file here has readinto
    file.seek(0)
    return digest
