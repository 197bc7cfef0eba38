"""A mistake on the command line of any command is one line that says what is right."""

import pytest

import analysis.command_line
import launch.main
import scaling.main

UP = ["up", "s.py", "--zone", "z", "--accelerator", "v6e-8", "--workdir", "gs://b"]


@pytest.mark.parametrize(
    ("parse", "words", "named"),
    [
        (scaling.main.parse, ["trian"], ("trian", "run", "watch")),
        (scaling.main.parse, ["run", "s.py", "--engine", "x"], ("engine", "x", "ray")),
        (scaling.main.parse, ["run", "s.py", "--tracker", "y"], ("tracker", "wandb")),
        (scaling.main.parse, ["watch", "w", "--port", "high"], ("port", "high", "int")),
        (scaling.main.parse, ["plan"], ("required: STUDY",)),
        (scaling.main.parse, ["status", "w", "--never"], ("--never",)),
        (analysis.command_line.parse, ["reprot", "w"], ("reprot", "report")),
        (analysis.command_line.parse, ["fit", "w", "--rows", "x"], ("rows", "int")),
        (launch.main.parse, ["upp"], ("upp", "down")),
        (launch.main.parse, [*UP, "--api", "azure"], ("api", "azure", "compute")),
    ],
)
def test_a_wrong_choice_is_one_line(parse, words, named, capsys):
    with pytest.raises(SystemExit) as ended:
        parse(["command", *words])
    said = capsys.readouterr().err
    assert (
        ended.value.code == 2 and said.count("\n") == 1 and said.startswith("scaling")
    )
    assert all(word in said for word in named) and "--help" in said
