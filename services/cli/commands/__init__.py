"""What the command line can be told, one module a subject; nothing heavy is imported before it is needed."""
