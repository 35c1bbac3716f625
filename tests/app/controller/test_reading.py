from __future__ import annotations

import threading

import pytest

from app.controller.reading import TimedReader
from app.errors import UnreachableError
from app.objects.meta import ObjectKey, ObjectKind, RawObject

KEY = ObjectKey(kind=ObjectKind.NAMESPACE, name="shop")


def test_object_is_read() -> None:
    reader = TimedReader(lambda key: {"kind": key.kind.value})
    assert reader.read(KEY) == {"kind": "Namespace"}
    reader.stop()


def test_slow_read_ends_at_its_deadline_and_holds_up_no_other() -> None:
    released = threading.Event()

    def slow(key: ObjectKey) -> RawObject | None:
        if key == KEY:
            released.wait(10)
        return {}

    reader = TimedReader(slow, seconds=0.05)
    with pytest.raises(UnreachableError) as error:
        reader.read(KEY)
    assert str(error.value) == "Namespace shop was not read from the API server within 0.05 s"
    assert reader.read(ObjectKey(kind=ObjectKind.NAMESPACE, name="other")) == {}
    released.set()
    reader.stop()


def test_no_read_is_begun_after_the_end() -> None:
    reader = TimedReader(lambda _: {})
    reader.stop()
    with pytest.raises(UnreachableError, match="stopping"):
        reader.read(KEY)
