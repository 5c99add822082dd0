"""`python -m services.adapter_worker` runs the service."""

from services.adapter_worker.app import main
from shared.observability.logging import ends_with_a_sentence

with ends_with_a_sentence("adapter_worker"):
    main()
