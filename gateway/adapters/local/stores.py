"""The stores in SQLite files: their tables, and the few expressions that differ in PostgreSQL.

Each store has its own file, except the channels, whose file has the domains too. Several processes may share a file.
"""

from typing import Self

from gateway.adapters.local.database import Database
from gateway.adapters.sql.channels import ChannelRows
from gateway.adapters.sql.console import ConsoleRows
from gateway.adapters.sql.events import EventRows
from gateway.adapters.sql.films import FilmRows
from gateway.adapters.sql.jobs import JobRows
from gateway.adapters.sql.registry import RegistryRows
from gateway.ports.errors import StoreUnavailable, StoreUnusable


class SqliteChannels(ChannelRows, Database):
    CREATE = """
CREATE TABLE IF NOT EXISTS channels (id TEXT PRIMARY KEY, item TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS domains (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS channel_list (
    id TEXT PRIMARY KEY, changed INTEGER NOT NULL DEFAULT 0, name TEXT, search TEXT, expires INTEGER
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS channel_list_outdated ON channel_list (id) WHERE name IS NULL;
INSERT OR IGNORE INTO channel_list (id) SELECT id FROM channels WHERE id NOT LIKE 'deleted/%';
CREATE TRIGGER IF NOT EXISTS channel_added AFTER INSERT ON channels WHEN NEW.id NOT LIKE 'deleted/%'
    BEGIN INSERT INTO channel_list (id) VALUES (NEW.id); END;
CREATE TRIGGER IF NOT EXISTS channel_changed AFTER UPDATE OF item ON channels WHEN NEW.id = OLD.id
    BEGIN UPDATE channel_list SET changed = changed + 1, name = NULL WHERE id = NEW.id; END;
CREATE TRIGGER IF NOT EXISTS channel_renamed AFTER UPDATE OF id ON channels WHEN NEW.id <> OLD.id
    BEGIN DELETE FROM channel_list WHERE id = OLD.id; END;
CREATE TRIGGER IF NOT EXISTS channel_removed AFTER DELETE ON channels
    BEGIN DELETE FROM channel_list WHERE id = OLD.id; END
"""
    SCHEMA = 2
    CHECK = "SELECT 1 FROM channels LIMIT 1"
    RANKS = "SELECT key AS id, value AS rank FROM json_each(?)"
    ENTER = """
UPDATE channel_list SET
    name = json_extract(value, '$[2]'), search = json_extract(value, '$[3]'), expires = json_extract(value, '$[4]')
FROM json_each(?)
WHERE channel_list.id = json_extract(value, '$[0]') AND changed = json_extract(value, '$[1]')
"""
    HAS_SLUG = "CASE WHEN json_valid(item) THEN json_extract(item, '$.slug') = wanted.slug ELSE false END"
    NUMBER = "rowid"

    async def _rename(self, id: str, item: str, new_id: str, new_item: str) -> bool:
        statement = "UPDATE OR REPLACE channels SET id = ?, item = ? WHERE id = ? AND ? IN (item, '')"
        return bool(await self.write(statement, new_id, new_item, id, item))


class SqliteJobs(JobRows, Database):
    CREATE = """
CREATE TABLE IF NOT EXISTS jobs (
    id TEXT PRIMARY KEY, finished INTEGER NOT NULL, version INTEGER NOT NULL, item TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS jobs_unfinished ON jobs (id) WHERE finished = 0
"""
    CHECK = "SELECT 1 FROM jobs LIMIT 1"


class SqliteFilms(FilmRows, Database):
    CREATE = """
CREATE TABLE IF NOT EXISTS films (
    key TEXT PRIMARY KEY, state TEXT NOT NULL, listed INTEGER NOT NULL, created INTEGER NOT NULL,
    version INTEGER NOT NULL, search TEXT NOT NULL, item TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS films_listed ON films (created, key) WHERE listed = 1;
CREATE INDEX IF NOT EXISTS films_unlisted ON films (state) WHERE state <> 'READY'
"""
    CHECK = "SELECT 1 FROM films LIMIT 1"


class SqliteConsole(ConsoleRows, Database):
    CREATE = """
CREATE TABLE IF NOT EXISTS people (
    kind TEXT NOT NULL, key TEXT NOT NULL, expires REAL NOT NULL, value TEXT NOT NULL, PRIMARY KEY (kind, key)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS people_expires ON people (expires) WHERE expires > 0
"""
    CHECK = "SELECT 1 FROM people LIMIT 1"


class SqliteEvents(EventRows, Database):
    CREATE = """
CREATE TABLE IF NOT EXISTS events (
    id TEXT PRIMARY KEY, type TEXT NOT NULL, time REAL NOT NULL, channel TEXT NOT NULL, node TEXT NOT NULL,
    data TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS events_channel ON events (channel, id);
CREATE INDEX IF NOT EXISTS events_type ON events (type, id)
"""
    CHECK = "SELECT 1 FROM events LIMIT 1"
    APPEND = """
INSERT OR IGNORE INTO events
SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]'),
    json_extract(value, '$[3]'), json_extract(value, '$[4]'), json_extract(value, '$[5]')
FROM json_each(?)
"""


class SqliteRegistry(RegistryRows, Database):
    """For several gateways on one machine. The file contains nothing else."""

    CREATE = """
CREATE TABLE IF NOT EXISTS nodes (
    id TEXT PRIMARY KEY, role TEXT NOT NULL, address TEXT NOT NULL, beat INTEGER NOT NULL, channel TEXT NOT NULL,
    shown TEXT NOT NULL, expires REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS holdings (
    stream TEXT PRIMARY KEY, node TEXT NOT NULL, address TEXT NOT NULL, claim TEXT NOT NULL, started REAL NOT NULL,
    "left" INTEGER NOT NULL, cluster INTEGER NOT NULL, expires REAL NOT NULL, item TEXT NOT NULL
) WITHOUT ROWID
"""
    CHECK = "SELECT 1 FROM holdings LIMIT 1"

    async def __aenter__(self) -> Self:
        """Opens the file like Database. Raises StoreUnusable also if another store of Millrace uses the file."""
        await super().__aenter__()
        try:
            # A power failure may lose the last rows, but it also ends the nodes of these rows. With NORMAL, a heartbeat
            # does not wait for a disk that is busy with recordings.
            await self.rows("PRAGMA synchronous = NORMAL")
            await self.check()
        except StoreUnavailable as e:
            await self.__aexit__(None, None, None)
            raise StoreUnusable(f"{e}; the registry needs a file of its own") from None
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        return self
