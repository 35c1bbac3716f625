"""The demo's live view: who calls whom, how fast, with what answers, over mTLS, split how.

Pure: it turns what was read from the mesh into Rich renderables. Reading is ``demo``'s task.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from app.cli.demo_world import VERSIONS, Mode
from app.observe.rates import Edge

_GOOD_STATUS = ("2", "3")
KEYS = "p permissive mode · s next split · k kill a bookstore · q quit"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """What the mesh did in the last window, and how it stands."""

    mode: Mode
    split: Mapping[str, int]
    """Weights as the file says."""
    served: Mapping[str, int]
    """Books per version since the demo is up."""
    edges: Mapping[Edge, int]
    """Requests of the window."""
    window_seconds: float
    thief_ok: int
    thief_denied: int
    denied_now: int
    """Times the thief was denied in the window."""
    mtls: bool
    proxies: int
    pods: Sequence[tuple[str, str]]
    """Name and state of each Pod."""
    api_url: str
    folder: str
    notes: Sequence[str] = field(default=())
    """What is not in force, and what the newcomer last did."""


def render(scene: Scene) -> RenderableType:
    """The whole screen."""
    parts: list[RenderableType] = [_headline(scene), _calls(scene), _shop(scene), _pods(scene)]
    if scene.notes:
        parts.append(Text("\n".join(scene.notes), style="yellow"))
    footer = f"{KEYS}\nedit the YAML in {scene.folder} · admin API {scene.api_url}/docs"
    parts.append(Text(footer, style="dim"))
    return Panel(Group(*parts), title="Open Service Mesh: the bookstore", border_style="cyan")


def _headline(scene: Scene) -> Text:
    mode = (
        "permissive: all may call all" if scene.mode is Mode.PERMISSIVE else "SMI policies decide"
    )
    secure = ("mTLS", "bold green") if scene.mtls else ("no mTLS yet", "bold red")
    return Text.assemble(
        (mode, "bold"), " · ", secure, f" · {scene.proxies} Envoys connected", end="\n"
    )


def _calls(scene: Scene) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", expand=True)
    for heading in ("FROM", "TO", "REQUESTS/S", "ANSWERS"):
        table.add_column(heading, justify="right" if heading == "REQUESTS/S" else "left")
    calls: dict[tuple[str, str], dict[str, int]] = defaultdict(dict)
    for edge, count in sorted(scene.edges.items()):
        calls[edge.source, edge.destination][edge.response_code] = count
    for (source, destination), answers in calls.items():
        rate = sum(answers.values()) / scene.window_seconds
        table.add_row(source, destination, f"{rate:.1f}", _answers(answers))
    if scene.denied_now:
        denied = Text(f"denied ×{scene.denied_now}", style="red")
        often = f"{scene.denied_now / scene.window_seconds:.1f}"
        table.add_row("bookthief/bookthief", "bookstore/bookstore", often, denied)
    return table


def _answers(answers: Mapping[str, int]) -> Text:
    text = Text()
    for code, count in sorted(answers.items()):
        text.append(f"{code} ×{count}  ", style="green" if code[0] in _GOOD_STATUS else "red")
    return text


def _shop(scene: Scene) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", expand=True)
    for heading in ("BOOKSTORE", "WEIGHT", "SERVED", "SHARE"):
        table.add_column(heading)
    total = sum(scene.served.values()) or 1
    for version in VERSIONS:
        served = scene.served.get(version, 0)
        share = f"{100 * served / total:.0f} %"
        table.add_row(version, str(scene.split.get(version, 0)), str(served), share)
    table.add_row("to the thief", "", str(scene.thief_ok), f"{scene.thief_denied} denied")
    return table


def _pods(scene: Scene) -> Text:
    text = Text()
    for name, state in scene.pods:
        text.append("● ", style="green" if state == "ready" else "yellow")
        text.append(f"{name}  " if state == "ready" else f"{name} ({state})  ")
    return text
