"""GET /errors: what each error code means (kubernetes-surface 8.7)."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Annotated

from fastapi import APIRouter, Path

from app import errors
from app.api import schemas
from app.errors import AppError, NotFoundError, SettingError
from xds.resource import MeshError

router = APIRouter(prefix="/api/v1/errors", tags=["errors"], responses=schemas.PROBLEMS)
_FORM = re.compile(r"E\d{4}", re.ASCII)
# Documented, but checked below: a wrong form is 400 in words, not FastAPI's 422.
Code = Annotated[str, Path(json_schema_extra={"pattern": r"^E\d{4}$"})]


@router.get("")
def list_errors() -> list[schemas.ErrorCode]:
    """All codes, sorted; a code may have several meanings."""
    return _known()


@router.get("/{code}")
def read_error(code: Code) -> list[schemas.ErrorCode]:
    """The meanings of one code."""
    if not _FORM.fullmatch(code):
        raise SettingError("an error code is an E with four digits, such as E4104")
    found = [known for known in _known() if known.code == code]
    if not found:
        raise NotFoundError(f"there is no error code {code}; /api/v1/errors lists those there are")
    return found


def _known() -> list[schemas.ErrorCode]:
    raised = {(e.code, e.__name__, inspect.getdoc(e) or "") for e in _subclasses(MeshError)}
    found = {(code, name, meaning) for code, (name, meaning) in errors.FINDINGS.items()}
    return [
        schemas.ErrorCode(code=code, name=name, meaning=" ".join(meaning.split()))
        for code, name, meaning in sorted(raised | found)
    ]


def _subclasses(base: type[MeshError]) -> Iterator[type[MeshError]]:
    for child in base.__subclasses__():
        if child is not AppError:
            yield child
        yield from _subclasses(child)
