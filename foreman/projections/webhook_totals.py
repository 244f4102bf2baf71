"""The `webhook_totals` table: what came of all attempts to deliver a webhook, and how many deliveries are dead.

Rows of attempts go with their jobs' contents and are in no event, so what they came to is kept here. SQL, no rule.
"""

from __future__ import annotations

from typing import Final

from foreman.events.types import Position
from foreman.storage.reading import Read

#: Triggers, so that a number changes in the transaction of what it counts, whoever writes that.
SCHEMA: Final = """
CREATE TABLE webhook_totals (
    name  TEXT PRIMARY KEY,
    count INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO webhook_totals
VALUES ('delivered', 0), ('gone', 0), ('not_sent', 0), ('failed', 0),
    ('dead', (SELECT count(*) FROM deliveries WHERE status = 'dead'));
UPDATE webhook_totals SET count = count + (
    SELECT count(*) FROM delivery_attempts WHERE name = CASE
        WHEN error IS NULL THEN 'delivered' WHEN status = 410 THEN 'gone'
        WHEN address IS NULL THEN 'not_sent' ELSE 'failed' END
);
CREATE TRIGGER delivery_attempts_are_counted AFTER INSERT ON delivery_attempts
BEGIN
    UPDATE webhook_totals SET count = count + 1 WHERE name = CASE
        WHEN NEW.error IS NULL THEN 'delivered' WHEN NEW.status = 410 THEN 'gone'
        WHEN NEW.address IS NULL THEN 'not_sent' ELSE 'failed' END;
END;
CREATE TRIGGER dead_deliveries_are_counted AFTER UPDATE OF status ON deliveries
WHEN (OLD.status = 'dead') != (NEW.status = 'dead')
BEGIN
    UPDATE webhook_totals SET count = count + (NEW.status = 'dead') - (OLD.status = 'dead') WHERE name = 'dead';
END;
CREATE TRIGGER dropped_dead_deliveries_are_counted AFTER DELETE ON deliveries WHEN OLD.status = 'dead'
BEGIN
    UPDATE webhook_totals SET count = count - 1 WHERE name = 'dead';
END;
"""
#: What an attempt comes to: `not_sent` if nothing was dialled, as when an address is not allowed or a name not known.
RESULTS: Final = ("delivered", "failed", "not_sent", "gone")
SELECT: Final = "SELECT name, count FROM webhook_totals"
#: Of the newest so many only: there may be a million.
SELECT_DEAD: Final = """
SELECT receiver, count(*), max(position)
FROM (SELECT receiver, position FROM deliveries WHERE status = 'dead' ORDER BY position DESC LIMIT ?) GROUP BY receiver
"""
NEWEST_DEAD: Final = 1_000


async def totals(read: Read) -> dict[str, int]:
    """How many attempts came to each of RESULTS, ever, and how many deliveries are `dead` now.

    A row that somebody has removed is one of none: to say that it is missing is for the audit.
    """
    return dict.fromkeys((*RESULTS, "dead"), 0) | dict(await read(SELECT))


async def dead_by_receiver(read: Read) -> dict[str, tuple[int, Position]]:
    """Among the NEWEST_DEAD deliveries that were given up: how many each receiver has, and its newest."""
    return {receiver: (count, newest) for receiver, count, newest in await read(SELECT_DEAD, (NEWEST_DEAD,))}
