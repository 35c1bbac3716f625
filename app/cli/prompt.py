"""One question before something is lost. Specification: kubernetes-surface 7.1."""

from __future__ import annotations

from app.cli.output import console

_TRIES = 3
_ANSWERS = {"y": True, "yes": True, "n": False, "no": False}


def confirm(question: str) -> bool:
    """True for yes. After three answers that are neither yes nor no, or at the end of input: no."""
    for _ in range(_TRIES):
        try:
            answer = console.input(f"{question} [y/n]: ", markup=False).strip().lower()
        except EOFError:
            return False
        if answer in _ANSWERS:
            return _ANSWERS[answer]
        if answer:
            console.print(f"invalid input {answer!r}: write y or n", highlight=False)
    return False
