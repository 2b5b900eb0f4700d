"""What the statements look like, and what is read by an administrator without SQLAlchemy."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from homeroom.storage import statements
from homeroom.storage.statements import Statement

STATEMENTS = {
    name: statement
    for name, statement in {**vars(statements), **statements.COUNT}.items()
    if isinstance(statement, Statement)
}


def test_without_sqlalchemy_the_error_says_what_to_install() -> None:
    code = "import sys; sys.modules['sqlalchemy'] = None; import homeroom.storage"
    run = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[2] / "plugin",
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 1
    assert "ImportError: Homeroom needs SQLAlchemy" in run.stderr.splitlines()[-1]
    assert 'pip install "SQLAlchemy>=1.3.24"' in run.stderr.splitlines()[-1]


@pytest.mark.parametrize("statement", STATEMENTS.values(), ids=STATEMENTS)
def test_a_statement_is_text_that_both_databases_read(statement: Statement) -> None:
    assert "%" not in statement.sql
    assert "::" not in statement.sql
    for number, _ in enumerate(statement.names, start=1):
        assert f"${number}" in statement.sql
    assert f"${len(statement.names) + 1}" not in statement.sql


def test_arguments_stand_in_the_order_of_the_text() -> None:
    sql, *arguments = statements.DELETE_HANDLED_FROM(event_id="$1", handled_at=5)
    assert arguments == [5, "$1"]
    assert " ".join(sql.split()) == (
        "DELETE FROM handled_events WHERE handled_events.handled_at < $1"
        " OR handled_events.handled_at = $1 AND handled_events.event_id <= $2"
    )


@pytest.mark.parametrize("values", [{}, {"kay": "position"}, {"key": "position", "bot": "@a:b"}])
def test_wrong_arguments_are_an_error(values: dict[str, str]) -> None:
    with pytest.raises((TypeError, KeyError)):
        statements.READ_SYNC_STATE(**values)
