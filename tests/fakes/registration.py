"""What a control plane writes of itself, as a list of calls."""

from __future__ import annotations


class FakeRegistration:
    """Implements ``Registration``; ``calls`` may be a list that others write to as well."""

    def __init__(self, calls: list[str] | None = None) -> None:
        self.calls = [] if calls is None else calls
        self.failing: dict[str, Exception] = {}
        """What a call raises, by its name."""

    def prepare(self) -> None:
        self._call("prepare")

    def register(self) -> None:
        self._call("register")

    def refresh(self) -> None:
        self._call("refresh")

    def start(self) -> None:
        self._call("start")

    def set_ready(self) -> None:
        self._call("set_ready")

    def stop(self) -> None:
        self._call("stop")

    def problems(self) -> tuple[str, ...]:
        return ("the webhook configuration cannot be written",)

    def _call(self, name: str) -> None:
        self.calls.append(name)
        if name in self.failing:
            raise self.failing[name]
