"""`python -m services.selector` runs the service."""

from services.selector.app import main
from shared.observability.logging import ends_with_a_sentence

with ends_with_a_sentence("selector"):
    main()
