"""`python -m services.trainer` runs the service; with `--once`, for one job."""

import sys

from services.trainer.app import main
from shared.observability.logging import ends_with_a_sentence

with ends_with_a_sentence("trainer"):
    main(once="--once" in sys.argv[1:])
