"""Events as JSON lines in files, queried through DuckDB."""
