"""How a command ends where an error says what is wrong: with one line, and no traceback."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import typer

from heisd_ros.errors import HeisdError

Errors = type[Exception] | tuple[type[Exception], ...]


@contextmanager
def refusing(
    errors: Errors = (HeisdError, ValueError), option: str | None = None
) -> Iterator[None]:
    """Turns errors into a usage error, of an option if it is named; a decorator as well."""
    try:
        yield
    except errors as error:
        raise typer.BadParameter(str(error), param_hint=option) from error


@contextmanager
def failing(errors: Errors = (HeisdError, ValueError, OSError), before: str = "") -> Iterator[None]:
    """Writes errors to stderr, behind `before`, and exits with 1; a decorator as well."""
    try:
        yield
    except errors as error:
        typer.echo(f"{before}{error}", err=True)
        raise typer.Exit(1) from error
