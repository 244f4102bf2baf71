"""Single changes to a database file, as a slip or an attacker would make them. Each follows from its seed."""

from __future__ import annotations

import json
import random
import sqlite3
import string
import zlib
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import orjson

#: What is in no event and follows from nothing else that is kept, so that a change of it cannot be seen.
BESIDE_THE_LOG = {
    "deliveries": {"failures", "due", "ended"},
    "delivery_attempts": {"at", "duration", "address", "status", "reply", "error"},
    "webhook_secrets": {"secret"},
    "webhook_totals": {"count"},
}
TABLES = (
    "events", "jobs", "artifacts", "idempotency", "deliveries", "delivery_attempts", "webhook_secrets",
    "webhook_totals", "snapshots", "sqlite_sequence",
)  # fmt: skip


class Unfit(Exception):
    """There is no such change to make here, or it would change nothing."""


class Mutation:
    """One change to one file, chosen by chance."""

    def __init__(self, connection: sqlite3.Connection, chance: random.Random) -> None:
        self.sql = connection.execute
        self.chance = chance

    def columns(self, table: str) -> list[str]:
        return [row[1] for row in self.sql(f"PRAGMA table_info({table})")]

    def rows(self, table: str) -> list[dict[str, Any]]:
        names = self.columns(table)
        rows = self.sql(f"SELECT {', '.join(names)} FROM {table} ORDER BY 1, 2")  # the same each time
        return [dict(zip(names, row, strict=True)) for row in rows]

    def pick(self, *tables: str) -> tuple[str, dict[str, Any]]:
        table = self.chance.choice(tables or TABLES)
        rows = self.rows(table)
        if not rows:
            raise Unfit
        return table, self.chance.choice(rows)

    def where(self, row: dict[str, Any]) -> tuple[str, list[Any]]:
        return " AND ".join(f"{name} IS ?" for name in row), list(row.values())

    def update(self, table: str, row: dict[str, Any], column: str, value: Any) -> str:
        if value == row[column] and type(value) is type(row[column]):
            raise Unfit
        clause, values = self.where(row)
        if self.sql(f"UPDATE {table} SET {column} = ? WHERE {clause}", [value, *values]).rowcount != 1:
            raise Unfit
        return f"{table}.{column} of {tuple(row.values())[:2]}: {row[column]!r:.60} became {value!r:.60}"

    def other(self, value: Any) -> Any:
        """Another value of the same kind."""
        chance = self.chance
        match value:
            case bool():
                return not value
            case int():
                return chance.choice([value + 1, value - 1, value ^ (1 << chance.randrange(20)), -value, 0])
            case float():
                return chance.choice([value + 1, value / 2, -value]) if value else 1.5  # -0.0 is 0.0
            case bytes():
                return self.flipped(value)
            case str():
                place = chance.randrange(len(value) + 1)
                return value[:place] + chance.choice(string.ascii_letters) + value[place + chance.randrange(2) :]
            case list():
                return [*value, 0]
            case dict():
                return {**value, "strange": 0}
        return chance.choice([1, "x", 0.5])

    def flipped(self, data: bytes) -> bytes:
        if not data:
            return b"x"
        place = self.chance.randrange(len(data))
        return data[:place] + bytes([data[place] ^ (1 << self.chance.randrange(8))]) + data[place + 1 :]

    def extreme(self, value: Any, *larger: Any) -> Any:
        """A value that is none of any size that foreman writes, where one can be made of the same kind."""
        match value:
            case int() if not isinstance(value, bool):
                return self.chance.choice([2**63 - 1, -(2**63), 2**53, *larger])
            case float():
                return self.chance.choice([1e308, -1e308, 5e-324, *larger])
            case str():
                return self.chance.choice(["", "\0", "x" * 50_000, "\U0010ffff", "9" * 400])
        raise Unfit

    def field(self) -> str:
        table, row = self.pick()
        column = self.chance.choice([name for name in row if name not in BESIDE_THE_LOG.get(table, ())])
        value = self.extreme(row[column]) if self.chance.random() < 0.2 else self.other(row[column])
        if table == "deliveries" and column == "status":
            value = self.chance.choice(["delivered", "dead", "gone"])
            if row["ended"] is not None and row["status"] == "pending":
                raise Unfit  # it has been each of these before somebody asked for it again
        if table == "artifacts" and column == "bytes":
            must_differ(row["encoding"], row[column], value)
        return self.update(table, row, column, value)

    def document(self) -> str:
        """One member somewhere in a stored document."""
        table, row = self.pick("jobs", "events", "snapshots")
        column = {"jobs": "view", "events": "data", "snapshots": "state"}[table]
        document = orjson.loads(row[column])
        holder = document
        while True:
            key = self.chance.choice(list(holder) if isinstance(holder, dict) else range(len(holder)))
            if not (isinstance(holder[key], dict | list) and holder[key]):
                break
            holder = holder[key]
        if self.chance.random() < 0.2:
            holder[key] = self.extreme(holder[key], 2**64, 10**400)
        else:
            holder[key] = self.other(holder[key])
        return self.update(table, row, column, json.dumps(document, ensure_ascii=False, separators=(",", ":")))

    def letter(self) -> str:
        """One letter of a stored document, which may be none any more."""
        table, row = self.pick("jobs", "events", "snapshots")
        column = {"jobs": "view", "events": "data", "snapshots": "state"}[table]
        place = self.chance.randrange(len(row[column]))
        if table == "snapshots" and row[column][place].isdigit():
            raise Unfit  # perhaps a last digit, in which two machines may differ
        letter = self.chance.choice(string.printable)
        return self.update(table, row, column, row[column][:place] + letter + row[column][place + 1 :])

    def drop(self) -> str:
        table, row = self.pick(*(name for name in TABLES if name != "webhook_secrets"))
        clause, values = self.where(row)
        self.sql(f"DELETE FROM {table} WHERE {clause}", values)
        return f"{table}: {tuple(row.values())[:2]} dropped"

    def insert(self) -> str:
        """One more row, like another but for some of its columns."""
        table, row = self.pick()
        new = {name: self.other(value) if self.chance.random() < 0.5 else value for name, value in row.items()}
        if table == "webhook_secrets":
            new["job_id"] = self.other(row["job_id"])
        names, marks = ", ".join(new), ", ".join("?" * len(new))
        self.sql(f"INSERT INTO {table} ({names}) VALUES ({marks})", list(new.values()))
        return f"{table}: {tuple(new.values())[:2]} inserted"

    def swap(self) -> str:
        """What two rows hold in one column changes places."""
        table, one = self.pick(*(name for name in TABLES if name not in {"webhook_secrets", "webhook_totals"}))
        other = self.chance.choice(self.rows(table))
        differing = [name for name in one if one[name] != other[name] and name not in BESIDE_THE_LOG.get(table, ())]
        columns = [name for name in differing if name != "status"]
        if len(differing) < 2 or not columns:
            raise Unfit  # rows that differ in this only are the same two rows afterwards
        column = self.chance.choice(columns)
        nothing = {bytes: b"", str: "", int: -1}.get(type(one[column]), -1)  # it may have to be unique meanwhile
        for row, now, value in (
            (one, one[column], nothing),
            (other, other[column], one[column]),
            (one, nothing, other[column]),
        ):
            clause, values = self.where({**row, column: now})
            self.sql(f"UPDATE {table} SET {column} = ? WHERE {clause}", [value, *values])
        return f"{table}.{column} of {tuple(one.values())[:2]} and {tuple(other.values())[:2]} swapped"

    def artifact(self) -> str:
        """One bit, or the end cut off."""
        table, row = self.pick("artifacts")
        data = row["bytes"]
        value = self.flipped(data) if self.chance.random() < 0.8 else data[: self.chance.randrange(len(data))]
        must_differ(row["encoding"], data, value)
        return self.update(table, row, "bytes", value)

    def schema(self) -> str:
        kind, name = self.chance.choice(
            self.sql("SELECT type, name FROM sqlite_schema WHERE type != 'table' AND sql IS NOT NULL").fetchall()
        )
        self.sql(f"DROP {kind} {name}")
        return f"{kind} {name} dropped"

    def version(self) -> str:
        ((number,),) = self.sql("PRAGMA user_version")
        wrong = self.chance.choice([number + 1, number - 1, 0, 99])
        self.sql(f"PRAGMA user_version = {wrong}")
        return f"user_version became {wrong}"

    def tail(self) -> str:
        """The last events are cut off, and the record of how many there were is put right."""
        ((head,),) = self.sql("SELECT max(position) FROM events")
        left = head - self.chance.randrange(1, 20)
        self.sql("DELETE FROM events WHERE position > ?", (left,))
        self.sql("UPDATE sqlite_sequence SET seq = ?", (left,))
        return f"cut off after event {left}"


KINDS: tuple[tuple[Callable[[Mutation], str], int], ...] = (
    (Mutation.field, 30), (Mutation.document, 20), (Mutation.letter, 8), (Mutation.drop, 10), (Mutation.insert, 10),
    (Mutation.swap, 10), (Mutation.artifact, 8), (Mutation.schema, 1), (Mutation.version, 1), (Mutation.tail, 2),
)  # fmt: skip


def change(path: Path, *statements: str) -> None:
    """Run these as somebody who knows to take the triggers away and to put them back."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        triggers = connection.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'").fetchall()
        for name, _ in triggers:
            connection.execute(f"DROP TRIGGER {name}")
        for sql in statements:
            assert connection.execute(sql).rowcount != 0
        for _, sql in triggers:
            connection.execute(sql)


def must_differ(encoding: str, before: bytes, after: bytes) -> None:
    """A bit that pads a compressed artifact is none of the artifact's."""
    if encoding == "deflate":
        try:
            unpacking = zlib.decompressobj()
            if unpacking.decompress(after) == zlib.decompress(before) and unpacking.eof and not unpacking.unused_data:
                raise Unfit
        except zlib.error:
            return


def mutate(path: Path, seed: str) -> str:
    """Make one change to the file; in words, which."""
    chance = random.Random(seed)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        triggers = connection.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'").fetchall()
        while True:
            (kind,) = chance.choices([kind for kind, _ in KINDS], [weight for _, weight in KINDS])
            connection.execute("BEGIN")
            try:
                if kind is not Mutation.schema:
                    for name, _ in triggers:
                        connection.execute(f"DROP TRIGGER {name}")
                words = kind(Mutation(connection, chance))
                if kind is not Mutation.schema:
                    for _, sql in triggers:
                        connection.execute(sql)
                connection.execute("COMMIT")
            except (Unfit, sqlite3.IntegrityError, OverflowError):
                connection.execute("ROLLBACK")
            else:
                return words
