"""Imported by Python itself at the start of a sabotaged process."""

from tests.chaos.sabotage.patches import apply

apply()
