"""Small real services that child processes import by name."""
