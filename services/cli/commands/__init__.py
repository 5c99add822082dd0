"""The commands, one module for each subject; heavy modules are imported where they are used."""
