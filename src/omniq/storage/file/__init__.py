"""Tasks in files: a local directory, an object store, any filesystem that creates atomically."""
