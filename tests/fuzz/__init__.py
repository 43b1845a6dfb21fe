"""Fuzzing: what anybody outside can hand to the daemon, in any bytes at all. docs/fuzzing.md says how to run it.

`targets/NAME.py` has one function, `one_input(data: bytes) -> None`, that holds what must be true of every input;
`corpus/NAME/` has inputs that between them reach what the target reaches. `run.py` searches with coverage guidance,
`test_fuzz.py` replays the corpus and mutates it a little.
"""
