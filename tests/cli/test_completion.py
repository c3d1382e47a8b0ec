"""Completion of commands and options by the shell."""

from __future__ import annotations

import shutil
import subprocess

import pytest

import fastmlp._common.installed
from fastmlp.cli import main


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_completes_commands_options_and_choices(capsys, tmp_path):
    pytest.importorskip("shtab")
    assert main(["completion", "bash"]) == 0
    script = tmp_path / "completion"
    script.write_text(capsys.readouterr().out)

    def completions(*words):
        line = f"source {script}; COMP_WORDS=({' '.join(words)}); COMP_CWORD={len(words) - 1}; "
        line += "_shtab_fastmlp; printf '%s\\n' ${COMPREPLY[@]}"
        return subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=True).stdout.split()

    assert completions("fastmlp", "ev") == ["evaluate"]
    assert completions("fastmlp", "train", "--optimizer", "ada") == ["adagrad", "adam", "adamw"]
    assert "--resume" in completions("fastmlp", "train", "--re")


def test_without_shtab_the_message_names_the_extra(capsys, monkeypatch):
    monkeypatch.setattr(fastmlp._common.installed, "is_installed", lambda name: False)
    assert main(["completion", "zsh"]) == 1
    assert 'pip install "fastmlp[completion]"' in capsys.readouterr().err
