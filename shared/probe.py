"""`python -m shared.probe PORT PATH`: exit 0 if this container's own HTTP server answers 200; for health checks."""

import http.client
import sys

_SECONDS = 4


def main() -> None:
    """Send one request and exit by its status."""
    connection = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]), timeout=_SECONDS)
    try:
        connection.request("GET", sys.argv[2])
        response = connection.getresponse()
        body = response.read().decode(errors="replace").strip()
    except OSError as error:
        sys.exit(str(error))
    sys.exit(0 if response.status == 200 else f"HTTP {response.status}: {body}")


if __name__ == "__main__":
    main()
