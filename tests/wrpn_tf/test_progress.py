"""How far a computation is: on a terminal, and nowhere else."""

import io
import sys

from wrpn_tf.progress import ProgressLine


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_pipe_gets_nothing(capfd, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    with ProgressLine("prove", 2) as line:
        line.begin("prove output")
        print("result")
        line.advance(2)
    assert capfd.readouterr() == ("result\n", "")


def test_a_terminal_shows_what_how_far_and_how_long(capfd, monkeypatch):
    monkeypatch.setattr("sys.stderr", Terminal())
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    monkeypatch.delenv("NO_COLOR", raising=False)
    with ProgressLine("prove", 8) as line:
        line.begin("prove \x1b[31m[red]conv")
        line.advance(3)
        line.advance(3)
        print("result")
    shown = sys.stderr.getvalue()
    assert r"prove \x1b[31m[red]conv" in shown
    assert " 75%" in shown and "0:00:00" in shown
    assert shown.endswith("\x1b[1A\x1b[2K")  # The line is gone.
    assert capfd.readouterr().out == "result\n"


def test_it_is_hidden_where_that_is_asked_for(monkeypatch):
    monkeypatch.setattr("sys.stderr", Terminal())
    with ProgressLine("prove", 8, shown=False) as line:
        line.advance(8)
    assert sys.stderr.getvalue() == ""
