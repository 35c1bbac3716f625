"""What the demo's screen says of a scene."""

from dataclasses import replace

import pytest
from rich.console import Console

from app.cli.demo_view import Scene, render
from app.cli.demo_world import Mode
from app.observe.rates import Edge

CALL = Edge(source="bookbuyer/bookbuyer", destination="bookstore/bookstore-v1", response_code="200")
SCENE = Scene(
    mode=Mode.SMI,
    split={"v1": 90, "v2": 10},
    served={"v1": 30, "v2": 10},
    edges={CALL: 20, replace(CALL, response_code="503"): 1},
    window_seconds=2.0,
    thief_ok=0,
    thief_denied=7,
    denied_now=3,
    mtls=True,
    proxies=6,
    pods=[("bookstore-v1-a", "ready"), ("bookstore-v2-b", "Pending")],
    api_url="http://127.0.0.1:9091",
    folder="/run/osm/demo",
    notes=["bad.yaml:3: is not YAML"],
)


def screen(scene: Scene) -> list[str]:
    console = Console(width=110, color_system=None)
    with console.capture() as captured:
        console.print(render(scene))
    return [" ".join(line.split()) for line in captured.get().splitlines()]


@pytest.mark.parametrize(
    "line",
    [
        "│ SMI policies decide · mTLS · 6 Envoys connected │",
        "│ bookbuyer/bookbuyer bookstore/bookstore-v1 10.5 200 ×20 503 ×1 │",
        "│ bookthief/bookthief bookstore/bookstore 1.5 denied ×3 │",
        "│ v1 90 30 75 % │",
        "│ to the thief 0 7 denied │",
        "│ ● bookstore-v1-a ● bookstore-v2-b (Pending) │",
        "│ bad.yaml:3: is not YAML │",
        "│ edit the YAML in /run/osm/demo · admin API http://127.0.0.1:9091/docs │",
    ],
)
def test_screen_tells(line: str) -> None:
    assert line in screen(SCENE)


def test_screen_of_an_open_and_quiet_mesh() -> None:
    quiet = replace(SCENE, mode=Mode.PERMISSIVE, edges={}, denied_now=0, mtls=False, notes=())
    lines = screen(quiet)
    assert "│ permissive: all may call all · no mTLS yet · 6 Envoys connected │" in lines
    assert not [line for line in lines if "denied ×" in line]
