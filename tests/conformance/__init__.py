"""The storage port's contract, held against every storage through both faces."""
