"""Real servers for the tests: on free ports of this machine, each ended by its own id.

A fixture of `fixtures.py` starts a server when the first test asks for it. Which one:
`OMNIQ_TEST_*_URL`, if set; else the program on PATH; else the one of the `servers` group.
`OMNIQ_TEST_SERVERS=packages` passes over what is on PATH.
"""
