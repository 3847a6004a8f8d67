"""Reading of untrusted files: bounded, typed, and with errors that name the file."""
