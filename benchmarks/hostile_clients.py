"""What clients that mean harm take from others: half requests and an endless header; uploads as large as they may be.

One API process on real servers. `/healthz` is asked on a new connection each time, from the attack's own address; the
attack runs in a process of its own. Latencies are those of whole calls, connecting included. Uploads are ten at once of
each kind, of almost 256 MiB: a million rows, the same as a form, rows so short that they are too many, and adapters.
"""

import argparse
import contextlib
import http.client
import json
import statistics
import struct
import tarfile
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import psutil

from benchmarks.common import Row, print_table, row, write_results
from services.cli.local.supervisor import Supervisor
from services.cli.local.up import announce
from shared.adapter_files import CONFIG_NAME, WEIGHTS_NAME, BaseShapes
from shared.ledger.keys import LedgerKey
from shared.registry.store import S3Store
from shared.settings import Settings
from tests.support.adapter_samples import CONFIG
from tests.support.eventually import eventually
from tests.support.slow_connections import slow_connections

HALF_REQUESTS = 2000
UPLOADS = 10
MAX_BYTES = 256 << 20
RANK, WIDTH = 64, 500 << 10
FORM = "multipart/form-data; boundary=b"
PART = b'--b\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n'
END = b"\r\n--b--\r\n"
GAP_SECONDS = 0.05


def main() -> None:
    """Attack, print and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, running_api(Path(folder)) as (supervisor, api):
        rows = slow_rows(supervisor.api_url, api, options.seconds)
        rows += upload_rows(supervisor, api)
    print_table(rows)
    write_results("hostile_clients", rows)


@contextmanager
def running_api(folder: Path) -> Iterator[tuple[Supervisor, psutil.Process]]:
    """The servers and the API alone; yields the API's process with them."""
    supervisor = Supervisor(Settings(data_dir=folder), [], selectors=0, trainers=0)
    try:
        supervisor.start()
        eventually(lambda: is_up(supervisor.api_url), "the API answers")
        child = supervisor.children[0]
        assert child.process is not None
        yield supervisor, psutil.Process(child.process.pid)
    finally:
        supervisor.stop()


def is_up(url: str) -> bool:
    """Whether the API answers."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def slow_rows(url: str, api: psutil.Process, seconds: float) -> list[Row]:
    """The health page's latency without and with the attack, and the API's share of a core under it."""
    alone = healthz_ms(url, seconds / 6)
    with slow_connections(urlsplit(url).port or 80, HALF_REQUESTS) as ended:
        began, used = time.monotonic(), sum(api.cpu_times()[:2])
        attacked = healthz_ms(url, seconds)
        cores = (sum(api.cpu_times()[:2]) - used) / (time.monotonic() - began)
    told = (
        f"{p95(alone):.1f} alone; max {max(attacked):.0f}, n={len(attacked)}; {cores:.2f} cores; ended: {dict(ended)}"
    )
    return [row("slow_header_healthz_ms", p95(attacked), "ms", spread=told, goal=100, at_least=False)]


def healthz_ms(url: str, seconds: float) -> list[float]:
    """Latencies of single calls, one after the other."""
    found = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        began = time.perf_counter()
        assert is_up(url)
        found.append((time.perf_counter() - began) * 1000)
        time.sleep(GAP_SECONDS)  # between two calls
    return found


class Body(NamedTuple):
    """A body that is made while it is sent: pieces that repeat, between a head and a tail."""

    path: str
    content_type: str
    head: bytes
    piece: bytes
    times: int
    tail: bytes
    status: int

    def pieces(self) -> Iterator[bytes]:
        """The body, piece by piece."""
        yield self.head
        for _ in range(self.times):
            yield self.piece
        yield self.tail


def upload_rows(supervisor: Supervisor, api: psutil.Process) -> list[Row]:
    """The API's peak of resident memory under ten uploads at once of each kind."""
    key = announce(supervisor)
    publish_base_model(supervisor)
    idle = api.memory_info().rss / 2**20
    peaks = {}
    for kind, body in {**row_bodies(), "adapters": adapter_body()}.items():
        clear_peak(api.pid)
        with ThreadPoolExecutor(UPLOADS) as pool:
            statuses = set(pool.map(lambda n, body=body: send(supervisor.api_url, key, body, n), range(UPLOADS)))
        assert statuses == {body.status}, (kind, statuses)
        peaks[kind] = peak_mib(api.pid)
    told = ", ".join(f"{kind} {peak:.0f}" for kind, peak in peaks.items())
    return [row("upload_api_peak_mib", max(peaks.values()), "MiB", spread=f"{idle:.0f} idle; {told}", goal=400,
                at_least=False)]  # fmt: skip


def row_bodies() -> dict[str, Body]:
    """A million rows, plain and as a form; and rows as short as they can be."""
    line = json.dumps({"input": "x" * 240}).encode() + b"\n"
    plain = Body("/v1/datasets?name=rows-{number}", "application/jsonl", b"", line * 4000, 250, b"", 201)
    short = b'{"input":"a"}\n' * 75_000
    return {
        "rows": plain,
        "form": plain._replace(content_type=FORM, head=PART, tail=END),
        "short rows": plain._replace(piece=short, times=MAX_BYTES // len(short), status=422),
    }


def adapter_body() -> Body:
    """A good adapter as a tar, in a form."""
    config = json.dumps(CONFIG | {"r": RANK, "target_modules": ["wide"], "base_model_name_or_path": "base"}).encode()
    tensors, offset = {}, 0
    for name, shape in (("lora_A", [RANK, WIDTH]), ("lora_B", [WIDTH, RANK])):
        end = offset + 4 * RANK * WIDTH
        tensors[f"base_model.model.model.layers.0.wide.{name}.weight"] = {
            "dtype": "F32", "shape": shape, "data_offsets": [offset, end]
        }  # fmt: skip
        offset = end
    header = json.dumps(tensors).encode()
    weights_head = struct.pack("<Q", len(header)) + header
    form = b'--b\r\nContent-Disposition: form-data; name="label"\r\n\r\nfin.sa\r\n'
    head = form + PART + tar_member(CONFIG_NAME, len(config)) + padded(config)
    head += tar_member(WEIGHTS_NAME, len(weights_head) + offset) + weights_head
    rest = b"\0" * (-(len(weights_head) + offset) % 512) + b"\0" * 1024
    piece = struct.pack("<f", 0.01) * (1 << 18)
    return Body("/v1/adapters", FORM, head, piece, offset // len(piece), rest + END, 201)


def tar_member(name: str, size: int) -> bytes:
    """The block before a file's bytes."""
    member = tarfile.TarInfo(name)
    member.size = size
    return member.tobuf(tarfile.USTAR_FORMAT)


def padded(data: bytes) -> bytes:
    """A file's bytes up to the end of its last block."""
    return data + b"\0" * (-len(data) % 512)


def send(url: str, key: str, body: Body, number: int) -> int:
    """Upload once; returns the status."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=3600)
    length = len(body.head) + len(body.piece) * body.times + len(body.tail)
    headers = {"Authorization": f"Bearer {key}", "Content-Type": body.content_type, "Content-Length": str(length)}
    try:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # a refusal comes before the end
            connection.request("POST", body.path.format(number=number), body=body.pieces(), headers=headers)
        return connection.getresponse().status
    finally:
        connection.close()


def publish_base_model(supervisor: Supervisor) -> None:
    """Say which model the adapters are for, as a worker does."""
    model = {"id": "base", "shapes": BaseShapes({"model.layers.0.wide": (WIDTH, WIDTH)}).to_dict()}
    S3Store(supervisor.settings).put("base/base.json", json.dumps(model).encode())
    supervisor.ledger.redis.set(LedgerKey.BASE_MODEL, "base")


def clear_peak(pid: int) -> None:
    """Let the kernel measure the peak anew."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def peak_mib(pid: int) -> float:
    """The peak of resident memory."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmHWM:"))) / 1024


def p95(values: list[float]) -> float:
    """The 95th percentile."""
    return statistics.quantiles(values, n=20, method="inclusive")[-1]


if __name__ == "__main__":
    main()
