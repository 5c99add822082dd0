"""`python -m services.selector` runs the service."""

from services.selector.app import main

main()
