"""What AWS checks of a request and the test's S3 server does not: the region and the time that it is signed for."""

import http.client
import re
import threading
import time
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

_SCOPE = re.compile(r"Credential=[^/,]+/\d{8}/([^/,]+)/s3/aws4_request")
_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "date", "server"}
_MAX_SKEW_SECONDS = 900


class RegionalFront(ThreadingHTTPServer):
    """Stands before an S3 server as an endpoint of one region: passes on what is signed for it, refuses the rest.

    A refusal is AWS's: a status, a code and the region, which a HEAD's answer has no body to say. GetBucketLocation is
    answered also for requests that are signed for `us-east-1` (AWS, MinIO), unless `is_strict` (Garage). The server
    behind verifies the signature itself, so a scope that is not what was signed fails there.
    """

    daemon_threads = True

    def __init__(self, port, region, *, is_strict=False, names_region=True, clock_ahead_seconds=0):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.port, self.region = port, region
        self.is_strict, self.names_region = is_strict, names_region
        self.clock_ahead_seconds = clock_ahead_seconds
        self.signed_for = []
        """The regions of the requests that came."""

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"

    def __enter__(self):
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()

    def now(self):
        return time.time() + self.clock_ahead_seconds

    def refusal(self, scope, signed_at, *, asks_location):
        """Status and body of what is refused; None for a request that is passed on."""
        if abs(signed_at - self.now()) > _MAX_SKEW_SECONDS:
            return 403, "<Error><Code>RequestTimeTooSkewed</Code></Error>"
        if scope == self.region or (asks_location and scope == "us-east-1" and not self.is_strict):
            return None
        named = f"<Region>{self.region}</Region>" if self.names_region else ""
        return 400, f"<Error><Code>AuthorizationHeaderMalformed</Code>{named}</Error>"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        scope = _SCOPE.search(self.headers["Authorization"])[1]
        signed_at = datetime.strptime(self.headers["x-amz-date"] + "+0000", "%Y%m%dT%H%M%SZ%z").timestamp()
        self.server.signed_for.append(scope)
        asks_location = self.command == "GET" and "location=" in self.path
        if refusal := self.server.refusal(scope, signed_at, asks_location=asks_location):
            self._send(refusal[0], {"Content-Type": "application/xml"}, refusal[1].encode())
        else:
            self._pass_on(body, f"<LocationConstraint>{self.server.region}</LocationConstraint>" * asks_location)

    do_HEAD = do_PUT = do_POST = do_DELETE = do_GET  # noqa: N815  names of the standard library

    def _pass_on(self, body, instead):
        """`instead` takes the place of a good answer's body."""
        behind = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=30)
        behind.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            behind.putheader(name, value)
        behind.endheaders(body)
        answer = behind.getresponse()
        kept = {name: value for name, value in answer.headers.items() if name.lower() not in _HOP_BY_HOP}
        found = instead.encode() if instead and answer.status == 200 else answer.read()
        self._send(answer.status, kept, found, answer.headers.get("Content-Length"))
        behind.close()

    def _send(self, status, headers, body, length=None):
        is_head = self.command == "HEAD"
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", length if is_head and length else str(0 if is_head else len(body)))
        self.end_headers()
        self.wfile.write(b"" if is_head else body)

    def date_time_string(self, timestamp=None):
        return super().date_time_string(timestamp or self.server.now())

    def log_message(self, *_):
        pass
