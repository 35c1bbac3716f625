from ipaddress import IPv4Network
from pathlib import Path

import pytest

from app.errors import RightsError
from app.standalone.addresses import AddressBook

NETWORK = IPv4Network("10.42.0.0/27")


def _book(tmp_path: Path, network: IPv4Network = NETWORK) -> AddressBook:
    return AddressBook(tmp_path / "book.json", network)


def test_addresses_are_given_out_in_order_and_kept(tmp_path: Path) -> None:
    book = _book(tmp_path)
    assert [book.take(owner) for owner in ("b", "a", "b")] == [
        "10.42.0.16",
        "10.42.0.17",
        "10.42.0.16",
    ]
    assert list(book.all().items()) == [("a", "10.42.0.17"), ("b", "10.42.0.16")]


def test_addresses_outlive_the_process(tmp_path: Path) -> None:
    book = _book(tmp_path)
    book.take("a")
    book.take("b")
    book.free("a")
    again = _book(tmp_path)
    assert again.all() == {"b": "10.42.0.17"}
    assert ("a" in again, again["b"], again.take("c")) == (False, "10.42.0.17", "10.42.0.18")


def test_a_freed_address_is_used_last(tmp_path: Path) -> None:
    book = _book(tmp_path)
    book.take("a")
    book.free("a")
    book.free("never-had-one")
    taken = [book.take(str(index)) for index in range(15)]
    assert taken[-1] == "10.42.0.16"
    assert len(set(taken)) == 15
    with pytest.raises(RightsError, match=r"^no free address left in 10\.42\.0\.0/27$"):
        book.take("one-more")


def test_addresses_of_another_range_are_forgotten(tmp_path: Path) -> None:
    _book(tmp_path).take("a")
    assert _book(tmp_path, IPv4Network("10.46.0.0/27")).all() == {}


def test_a_torn_file_is_an_empty_book(tmp_path: Path) -> None:
    (tmp_path / "book.json").write_text('{"network": "10.42.0')
    assert _book(tmp_path).all() == {}


def test_the_file_is_private(tmp_path: Path) -> None:
    _book(tmp_path).take("a")
    assert [(p.name, p.stat().st_mode & 0o777) for p in tmp_path.iterdir()] == [
        ("book.json", 0o600)
    ]
