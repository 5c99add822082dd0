"""What AWS checks before a request and the test's S3 server does not: the region that it is signed for."""

import http.client
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

_SCOPE = re.compile(r"Credential=[^/,]+/\d{8}/([^/,]+)/s3/aws4_request")
_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "date", "server"}


class RegionalFront:
    """Stands before an S3 server as an endpoint of one region: passes on what is signed for it, refuses the rest.

    A refusal is AWS's: 400 with a code and the region, which a HEAD's answer has no body to say. GetBucketLocation is
    answered also for requests that are signed for `us-east-1` (AWS, MinIO), unless `is_strict` (Garage). The server
    behind verifies the signature itself, so a scope that is not what was signed fails there.
    """

    def __init__(self, port, region, *, is_strict=False, names_region=True):
        self.signed_for = []
        front = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                scope = _SCOPE.search(self.headers.get("Authorization", ""))[1]
                front.signed_for.append(scope)
                asks_location = self.command == "GET" and "location=" in self.path
                if scope != region and not (asks_location and scope == "us-east-1" and not is_strict):
                    self._refuse()
                else:
                    self._pass_on(body, f"<LocationConstraint>{region}</LocationConstraint>" if asks_location else "")

            do_HEAD = do_PUT = do_POST = do_DELETE = do_GET  # noqa: N815  names of the standard library

            def _refuse(self):
                named = f"<Region>{region}</Region>" if names_region else ""
                code = "<Code>AuthorizationHeaderMalformed</Code><Message>the region is wrong</Message>"
                self._answer(400, f"<Error>{code}{named}</Error>")

            def _answer(self, status, xml):
                self._send(status, {"Content-Type": "application/xml"}, xml.encode())

            def _pass_on(self, body, instead):
                """`instead` takes the place of a good answer's body."""
                behind = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
                behind.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
                for name, value in self.headers.items():
                    behind.putheader(name, value)
                behind.endheaders(body)
                answer = behind.getresponse()
                kept = {k: v for k, v in answer.headers.items() if k.lower() not in _HOP_BY_HOP}
                found = instead.encode() if instead and answer.status == 200 else answer.read()
                self._send(answer.status, kept, found, answer.headers.get("Content-Length"))
                behind.close()

            def _send(self, status, headers, body, length=None):
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                is_head = self.command == "HEAD"
                self.send_header("Content-Length", length if is_head and length else str(0 if is_head else len(body)))
                self.end_headers()
                self.wfile.write(b"" if is_head else body)

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def url(self):
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()
