"""An API that answers what it was given, for commands that only print it."""

import contextlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit


@contextlib.contextmanager
def canned_api(answers):
    """Serve JSON by path, to GET; 404 elsewhere. Yields the address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            found = answers.get(urlsplit(self.path).path)
            body = json.dumps(found if found is not None else {"code": "not_found", "detail": self.path}).encode()
            self.send_response(404 if found is None else 200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            """Say nothing of requests."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
