"""`python -m services.trainer` runs the service."""

from services.trainer.app import main

main()
