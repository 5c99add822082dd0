"""`python -m services.adapter_worker` runs the service."""

from services.adapter_worker.app import main

main()
