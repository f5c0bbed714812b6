"""The tables in PostgreSQL, as numbered migrations.

A migration is applied by the first process that needs it, while processes of the version before still run. So it only
adds: tables, columns with defaults, indexes. The version after next may remove what this version no longer uses.
Texts that are compared or sorted have the collation "C", the order of SQLite and DynamoDB.
"""

from typing import Final

# Notifications have the payload `<table>/<id>`, those of `people` `<table>/<kind>/<key>`. Triggers send them, at the
# commit of any writer.
CHANNEL: Final = "millrace"

MIGRATIONS: Final = (
    f"""
CREATE TABLE channels (
    id text COLLATE "C" PRIMARY KEY, item text NOT NULL, number bigint GENERATED ALWAYS AS IDENTITY
);
CREATE TABLE domains (name text COLLATE "C" PRIMARY KEY, value text NOT NULL);
CREATE TABLE jobs (
    id text COLLATE "C" PRIMARY KEY, finished integer NOT NULL, version bigint NOT NULL, item text NOT NULL
);
CREATE INDEX jobs_unfinished ON jobs (id) WHERE finished = 0;
CREATE TABLE films (
    key text COLLATE "C" PRIMARY KEY, state text NOT NULL, listed integer NOT NULL, created bigint NOT NULL,
    version bigint NOT NULL, search text NOT NULL, item text NOT NULL
);
CREATE INDEX films_listed ON films (created, key) WHERE listed = 1;
CREATE INDEX films_unlisted ON films (state) WHERE state <> 'READY';
CREATE TABLE people (
    kind text COLLATE "C" NOT NULL, key text COLLATE "C" NOT NULL, expires double precision NOT NULL,
    value text NOT NULL, PRIMARY KEY (kind, key)
);
CREATE INDEX people_expires ON people (expires) WHERE expires > 0;
CREATE TABLE events (
    id text COLLATE "C" PRIMARY KEY, type text COLLATE "C" NOT NULL, time double precision NOT NULL,
    channel text COLLATE "C" NOT NULL, node text NOT NULL, data text NOT NULL
);
CREATE INDEX events_channel ON events (channel, id);
CREATE INDEX events_type ON events (type, id);
CREATE UNLOGGED TABLE nodes (
    id text COLLATE "C" PRIMARY KEY, role text NOT NULL, address text NOT NULL, beat bigint NOT NULL,
    channel text NOT NULL, shown text NOT NULL, expires double precision NOT NULL
);
CREATE TABLE holdings (
    stream text COLLATE "C" PRIMARY KEY, node text NOT NULL, address text NOT NULL, claim text NOT NULL,
    started double precision NOT NULL, "left" integer NOT NULL, cluster integer NOT NULL,
    expires double precision NOT NULL, item text NOT NULL
);
CREATE FUNCTION millrace_notify() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('{CHANNEL}', TG_TABLE_NAME || '/' || COALESCE(NEW.id, OLD.id));
    RETURN NULL;
END $$;
CREATE TRIGGER channels_changed AFTER INSERT OR UPDATE OR DELETE ON channels
    FOR EACH ROW EXECUTE FUNCTION millrace_notify();
CREATE TRIGGER jobs_added AFTER INSERT ON jobs FOR EACH ROW EXECUTE FUNCTION millrace_notify();
""",
    """
CREATE TABLE channel_list (
    id text COLLATE "C" PRIMARY KEY, changed bigint NOT NULL DEFAULT 0, name text COLLATE "C", search text,
    expires bigint
);
CREATE INDEX channel_list_outdated ON channel_list (id) WHERE name IS NULL;
CREATE FUNCTION millrace_list() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        DELETE FROM channel_list WHERE id = OLD.id;
    ELSIF NEW.id NOT LIKE 'deleted/%' THEN
        INSERT INTO channel_list (id) VALUES (NEW.id)
        ON CONFLICT (id) DO UPDATE SET changed = channel_list.changed + 1, name = NULL;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER channels_listed AFTER INSERT OR UPDATE OR DELETE ON channels
    FOR EACH ROW EXECUTE FUNCTION millrace_list();
INSERT INTO channel_list (id) SELECT id FROM channels WHERE id NOT LIKE 'deleted/%' ON CONFLICT DO NOTHING;
""",
    f"""
CREATE FUNCTION millrace_notify_entry() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('{CHANNEL}', TG_TABLE_NAME || '/' || NEW.kind || '/' || NEW.key);
    RETURN NULL;
END $$;
CREATE TRIGGER entries_changed AFTER INSERT OR UPDATE ON people
    FOR EACH ROW WHEN (NEW.kind IN ('acme-certificate', 'alarms')) EXECUTE FUNCTION millrace_notify_entry();
""",
)
