"""`python -m services.trainer` runs the service; with `--once`, for one job."""

import sys

from services.trainer.app import main

main(once="--once" in sys.argv[1:])
