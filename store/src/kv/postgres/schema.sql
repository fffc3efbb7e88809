-- Key space and functions of the PostgreSQL engine. Every start runs this script, under a lock.
-- A function whose meaning changes gets a new version number, so that nodes of two versions can
-- share a database.

CREATE SCHEMA IF NOT EXISTS triggers;

CREATE TABLE IF NOT EXISTS triggers.kv (
    key bytea PRIMARY KEY,
    value bytea NOT NULL
);

-- Decodes a counter: a little-endian 64-bit number that wraps.
CREATE OR REPLACE FUNCTION triggers.counter_v1(value bytea) RETURNS numeric
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT ('x' || encode(
        substr(value, 8, 1) || substr(value, 7, 1) || substr(value, 6, 1) || substr(value, 5, 1) ||
        substr(value, 4, 1) || substr(value, 3, 1) || substr(value, 2, 1) || substr(value, 1, 1),
        'hex'
    ))::bit(64)::bigint::numeric
$$;

CREATE OR REPLACE FUNCTION triggers.counter_bytes_v1(sum numeric) RETURNS bytea
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT substr(b, 8, 1) || substr(b, 7, 1) || substr(b, 6, 1) || substr(b, 5, 1) ||
           substr(b, 4, 1) || substr(b, 3, 1) || substr(b, 2, 1) || substr(b, 1, 1)
    FROM int8send((
        mod(
            mod(sum + 9223372036854775808, 18446744073709551616) + 18446744073709551616,
            18446744073709551616
        )
        - 9223372036854775808
    )::bigint) AS b
$$;

-- Digest of all pairs in a range, with their lengths.
CREATE OR REPLACE FUNCTION triggers.range_digest_v1(low bytea, high bytea) RETURNS bytea
LANGUAGE sql STABLE STRICT AS $$
    SELECT sha256(coalesce(string_agg(
        int4send(octet_length(key)) || key || int4send(octet_length(value)) || value,
        '' ORDER BY key
    ), ''))
    FROM triggers.kv WHERE key >= low AND key < high
$$;

-- Commits a group of independent transactions. Arrays of one kind belong together; their `…_tx`
-- array has the number of the transaction. Returns the transactions that had no effect: conflicts,
-- whose reads have changed, and corrupt ones, which add to a value that is not a counter.
CREATE OR REPLACE FUNCTION triggers.commit_v1(
    key_tx int[], key_keys bytea[], key_values bytea[],
    range_tx int[], range_lows bytea[], range_highs bytea[], range_digests bytea[],
    clear_tx int[], clear_lows bytea[], clear_highs bytea[],
    write_tx int[], write_keys bytea[], write_values bytea[],
    add_tx int[], add_keys bytea[], add_deltas bigint[],
    OUT conflicts int[], OUT corrupt int[]
)
LANGUAGE plpgsql AS $$
DECLARE
    rejected int[];
    low bytea;
    high bytea;
BEGIN
    -- One group at a time over all nodes, so that the checks below hold until this group commits.
    -- Each statement of a volatile function has a snapshot of its own, so the ones below see all
    -- earlier groups.
    PERFORM pg_advisory_xact_lock(7310302157342270836);

    conflicts := ARRAY(
        SELECT r.tx FROM unnest(key_tx, key_keys, key_values) AS r(tx, key, value)
        LEFT JOIN triggers.kv ON kv.key = r.key
        WHERE kv.value IS DISTINCT FROM r.value
        UNION
        SELECT r.tx
        FROM unnest(range_tx, range_lows, range_highs, range_digests) AS r(tx, low, high, digest)
        WHERE triggers.range_digest_v1(r.low, r.high) <> r.digest
    );
    corrupt := ARRAY(
        SELECT DISTINCT a.tx FROM unnest(add_tx, add_keys) AS a(tx, key)
        JOIN triggers.kv ON kv.key = a.key
        WHERE octet_length(kv.value) <> 8
    );
    rejected := conflicts || corrupt;

    FOR low, high IN
        SELECT c.low, c.high FROM unnest(clear_tx, clear_lows, clear_highs) AS c(tx, low, high)
        WHERE c.tx <> ALL (rejected)
    LOOP
        DELETE FROM triggers.kv WHERE kv.key >= low AND kv.key < high;
    END LOOP;
    DELETE FROM triggers.kv USING unnest(write_tx, write_keys, write_values) AS w(tx, key, value)
    WHERE kv.key = w.key AND w.value IS NULL AND w.tx <> ALL (rejected);
    INSERT INTO triggers.kv (key, value)
    SELECT w.key, w.value FROM unnest(write_tx, write_keys, write_values) AS w(tx, key, value)
    WHERE w.value IS NOT NULL AND w.tx <> ALL (rejected)
    ON CONFLICT (key) DO UPDATE SET value = excluded.value;
    INSERT INTO triggers.kv AS kv (key, value)
    SELECT a.key, triggers.counter_bytes_v1(sum(a.delta))
    FROM unnest(add_tx, add_keys, add_deltas) AS a(tx, key, delta)
    WHERE a.tx <> ALL (rejected)
    GROUP BY a.key
    ON CONFLICT (key) DO UPDATE
    SET value = triggers.counter_bytes_v1(
        triggers.counter_v1(kv.value) + triggers.counter_v1(excluded.value)
    );
END
$$;
