"""The commands that guides show are there, and know the options that they are shown with."""

from __future__ import annotations

import shlex

import guides
import pytest

from runner.cli import main

STARTS = ("postgres", "mysql", "saas_api", "bucket", "stream")
_FLAGS = ("--all", "--yes")


@pytest.mark.parametrize("guide", STARTS)
def test_the_commands_of_a_guide_are_known(guide: str) -> None:
    told = [
        shlex.split(line, comments=True)[1:]
        for block in guides.blocks(f"{guide}.md")
        for line in block.text.splitlines()
        if line.startswith("wellspring ")
    ]
    assert {"add", "extract", "draft", "build", "run"} <= {words[0] for words in told}
    for words in told:
        options = [word for word in words if word.startswith("-")]
        given = [part for name in options for part in ([name] if name in _FLAGS else [name, "x"])]
        # An option that is not known is refused before `--help` is heeded.
        assert main([words[0], *given, "--help"]) == 0, words
