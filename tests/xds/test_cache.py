"""Equal arguments give one object, which lives as long as somebody holds it."""

from __future__ import annotations

import gc
from dataclasses import dataclass

import pytest

from xds.cache import BuildCache
from xds.resource import Layer, Resource, ResourceKind


@dataclass(frozen=True, weakref_slot=True, slots=True)
class Spec:
    name: str


def build(spec: Spec, suffix: str = "") -> Resource:
    return Resource.of(ResourceKind.CDS, spec.name + suffix, b"body")


def gather(cache: BuildCache, spec: Spec, suffix: str) -> Layer:
    return cache.get(Layer, (cache.get(build, Spec(spec.name), suffix),))


def test_equal_arguments_share_one_build() -> None:
    cache = BuildCache()
    first, second = cache.get(build, Spec("a"), "x"), cache.get(build, Spec("a"), "x")
    assert first is second
    assert cache.built == {"build": 1}


@pytest.mark.parametrize(
    ("spec", "suffix"),
    [pytest.param("b", "x", id="subject"), pytest.param("a", "y", id="context")],
)
def test_any_other_argument_builds_anew(spec: str, suffix: str) -> None:
    cache = BuildCache()
    kept = cache.get(build, Spec("a"), "x")
    assert cache.get(build, Spec(spec), suffix) is not kept
    assert cache.built == {"build": 2}


def test_what_nobody_holds_is_forgotten() -> None:
    cache = BuildCache()
    held = cache.get(build, Spec("a"))
    cache.get(build, Spec("b"))
    gc.collect()
    assert len(cache) == 1
    assert cache.get(build, Spec("a")) is held
    cache.get(build, Spec("b"))
    assert cache.built == {"build": 3}


def test_parts_of_a_held_layer_are_not_built_again() -> None:
    cache = BuildCache()
    layer = cache.get(Layer, (cache.get(build, Spec("a")),))
    again = cache.get(Layer, (cache.get(build, Spec("a")),))
    assert again is layer
    assert cache.built == {"build": 1, "Layer": 1}


def test_answer_about_one_subject_is_remembered() -> None:
    cache, subject = BuildCache(), Spec("a")
    first = cache.recall(gather, subject, "x")
    assert cache.recall(gather, subject, "x") is first
    assert cache.built == {"build": 1, "Layer": 1}


def test_other_context_replaces_the_answer() -> None:
    cache, subject = BuildCache(), Spec("a")
    first = cache.recall(gather, subject, "x")
    second = cache.recall(gather, subject, "y")
    assert list(second.resources(ResourceKind.CDS)) == ["ay"]
    assert cache.recall(gather, subject, "y") is second
    assert cache.recall(gather, subject, "x") is not second
    assert list(first.resources(ResourceKind.CDS)) == ["ax"]


def test_equal_but_new_subject_finds_the_same_parts() -> None:
    cache = BuildCache()
    old, new = Spec("a"), Spec("a")
    assert cache.recall(gather, old, "x") is cache.recall(gather, new, "x")
    assert cache.built == {"build": 1, "Layer": 1}


def test_sweep_forgets_subjects_that_are_gone() -> None:
    cache, living = BuildCache(), Spec("a")
    kept = cache.recall(gather, living, "x")
    cache.recall(gather, Spec("b"), "x")
    gc.collect()
    assert len(cache) == 4
    cache.sweep()
    gc.collect()
    assert len(cache) == 2
    assert cache.recall(gather, living, "x") is kept


def test_new_subject_at_an_old_id_is_asked_for_itself() -> None:
    cache = BuildCache()
    for number in range(50):  # an id is soon used again
        layer = cache.recall(gather, Spec(str(number)), "x")
        assert list(layer.resources(ResourceKind.CDS)) == [f"{number}x"]
