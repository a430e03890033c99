"""`python -m omniq.cli`."""

from omniq.cli import main

main()
