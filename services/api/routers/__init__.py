"""The doors: each parses a request, calls one plain function, and shapes its answer."""
