//! The layout of the database, as a list of steps that each lead from one version to the next.
//!
//! A step that was released is never edited: a new one is appended. Unsigned 64-bit numbers from
//! the wire are stored by their bits, times are milliseconds since the epoch unless they say `ns`.

use rusqlite::Connection;

use super::StoreError;

/// Step `n` leads from version `n` to `n + 1`.
const STEPS: &[&str] = &[
    // 1: envelopes, links of chains, agents, findings, incidents, outbox, sources.
    "
    CREATE TABLE journal (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        agent BLOB NOT NULL,
        received_at INTEGER NOT NULL,
        standing TEXT NOT NULL,
        missing INTEGER NOT NULL,
        envelope BLOB NOT NULL
    );
    CREATE INDEX journal_received ON journal (received_at);

    CREATE TABLE cursor (
        reader TEXT PRIMARY KEY,
        journal_id INTEGER NOT NULL
    ) WITHOUT ROWID;
    INSERT INTO cursor VALUES ('analysis', 0);

    CREATE TABLE link (
        agent BLOB NOT NULL,
        boot BLOB NOT NULL,
        sequence INTEGER NOT NULL,
        digest BLOB NOT NULL,
        previous BLOB NOT NULL,
        signed_at INTEGER NOT NULL,
        PRIMARY KEY (agent, boot, sequence)
    ) WITHOUT ROWID;

    CREATE TABLE agent (
        agent BLOB PRIMARY KEY,
        boot BLOB NOT NULL,
        sequence INTEGER NOT NULL,
        last_seen INTEGER NOT NULL,
        envelopes INTEGER NOT NULL,
        instance TEXT NOT NULL,
        hostname TEXT,
        version TEXT NOT NULL,
        capture TEXT NOT NULL,
        indicators INTEGER NOT NULL,
        packets_seen INTEGER NOT NULL,
        packets_lost INTEGER NOT NULL,
        gaps INTEGER NOT NULL,
        cut INTEGER NOT NULL
    ) WITHOUT ROWID;

    CREATE TABLE finding (
        id TEXT PRIMARY KEY,
        type TEXT NOT NULL,
        severity REAL NOT NULL,
        account TEXT NOT NULL,
        region TEXT NOT NULL,
        title TEXT NOT NULL,
        first_seen INTEGER NOT NULL,
        last_seen INTEGER NOT NULL,
        count INTEGER NOT NULL,
        incident TEXT,
        archived_at INTEGER,
        revision INTEGER NOT NULL,
        alerted_at INTEGER,
        alerted_severity REAL,
        alerted_incident TEXT,
        stored_at INTEGER NOT NULL,
        body TEXT NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX finding_stored ON finding (stored_at);
    CREATE INDEX finding_last_seen ON finding (last_seen);
    CREATE INDEX finding_type ON finding (type);

    CREATE TABLE incident (
        id TEXT PRIMARY KEY,
        severity REAL NOT NULL,
        title TEXT NOT NULL,
        updated_at INTEGER NOT NULL,
        stored_at INTEGER NOT NULL,
        body TEXT NOT NULL
    ) WITHOUT ROWID;

    CREATE TABLE outbox (
        channel TEXT NOT NULL,
        finding TEXT NOT NULL,
        revision INTEGER NOT NULL,
        created_at INTEGER NOT NULL,
        attempts INTEGER NOT NULL,
        next_try INTEGER NOT NULL,
        is_dead INTEGER NOT NULL,
        last_error TEXT,
        body TEXT NOT NULL,
        PRIMARY KEY (channel, finding)
    ) WITHOUT ROWID;
    CREATE INDEX outbox_due ON outbox (channel, is_dead, next_try);

    CREATE TABLE source_file (
        path TEXT PRIMARY KEY,
        size INTEGER NOT NULL,
        modified INTEGER NOT NULL,
        read_to INTEGER NOT NULL,
        mark BLOB NOT NULL,
        read_at INTEGER NOT NULL
    ) WITHOUT ROWID;

    CREATE TABLE api_call (
        identity BLOB PRIMARY KEY,
        seen_at INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX api_call_seen ON api_call (seen_at);

    CREATE TABLE memorable_call (
        identity BLOB PRIMARY KEY,
        event_time_ns INTEGER NOT NULL,
        event TEXT NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX memorable_call_time ON memorable_call (event_time_ns);
    ",
    // 2: how an agent's sensor was in its last window, as JSON.
    "
    ALTER TABLE agent ADD COLUMN sensor TEXT;
    ",
    // 3: links that overtook others.
    "
    ALTER TABLE link ADD COLUMN ahead INTEGER NOT NULL DEFAULT 0;
    ",
    // 4: what an envelope in the journal was when it was admitted.
    "
    ALTER TABLE journal ADD COLUMN digest BLOB;
    ",
    // 5: gaps in chains that may close yet; those in the journal were told when they were found.
    "
    ALTER TABLE journal ADD COLUMN missing_from INTEGER NOT NULL DEFAULT 0;
    CREATE TABLE gap (
        agent BLOB NOT NULL,
        boot BLOB NOT NULL,
        before INTEGER NOT NULL,
        missing_from INTEGER NOT NULL,
        missing INTEGER NOT NULL,
        time_ns INTEGER NOT NULL,
        received_at INTEGER NOT NULL,
        PRIMARY KEY (agent, boot, before)
    ) WITHOUT ROWID;
    ",
    // 6: agents that enrolled, the key each instance is bound to, keys that are revoked.
    "
    CREATE TABLE enrolled (
        agent BLOB PRIMARY KEY,
        public_key BLOB NOT NULL,
        account TEXT NOT NULL,
        region TEXT NOT NULL,
        instance TEXT NOT NULL,
        level TEXT NOT NULL,
        by TEXT NOT NULL,
        enrolled_at INTEGER NOT NULL,
        is_pending INTEGER NOT NULL,
        until INTEGER
    ) WITHOUT ROWID;
    CREATE TABLE instance_key (
        account TEXT NOT NULL,
        region TEXT NOT NULL,
        instance TEXT NOT NULL,
        agent BLOB NOT NULL,
        PRIMARY KEY (account, region, instance)
    ) WITHOUT ROWID;
    CREATE TABLE revoked (
        agent BLOB PRIMARY KEY,
        revoked_at INTEGER NOT NULL
    ) WITHOUT ROWID;
    ",
    // 7: indicators of operators, and the version of what was last published.
    "
    CREATE TABLE operator_indicator (
        value TEXT NOT NULL,
        category TEXT NOT NULL,
        comment TEXT,
        who TEXT NOT NULL,
        added_at INTEGER NOT NULL,
        expires_at INTEGER,
        PRIMARY KEY (value, category)
    ) WITHOUT ROWID;
    CREATE TABLE published (
        what TEXT PRIMARY KEY,
        version INTEGER NOT NULL,
        content INTEGER NOT NULL,
        issued_at INTEGER NOT NULL
    ) WITHOUT ROWID;
    ",
    // 8: feeds of indicators that are fetched.
    "
    CREATE TABLE feed (
        name TEXT PRIMARY KEY,
        origin TEXT NOT NULL,
        added_at INTEGER NOT NULL,
        current TEXT,
        held TEXT,
        checked_at INTEGER NOT NULL,
        success_at INTEGER NOT NULL,
        changed_at INTEGER NOT NULL,
        next_at INTEGER NOT NULL,
        failures INTEGER NOT NULL,
        last_error TEXT,
        is_stale_told INTEGER NOT NULL
    ) WITHOUT ROWID;
    ",
    // 9: join tokens.
    "
    CREATE TABLE join_token (
        id TEXT PRIMARY KEY,
        hash BLOB NOT NULL,
        label TEXT NOT NULL,
        account TEXT,
        region TEXT,
        instance TEXT,
        created_at INTEGER NOT NULL,
        expires_at INTEGER NOT NULL,
        uses_max INTEGER NOT NULL,
        uses INTEGER NOT NULL,
        is_revoked INTEGER NOT NULL
    ) WITHOUT ROWID;
    ",
    // 10: operators' tokens, and the record of who changed what.
    "
    CREATE TABLE operator (
        id TEXT PRIMARY KEY,
        name TEXT NOT NULL,
        hash BLOB NOT NULL,
        role TEXT NOT NULL,
        accounts TEXT,
        created_at INTEGER NOT NULL,
        created_by TEXT NOT NULL,
        expires_at INTEGER NOT NULL,
        revoked_at INTEGER,
        used_at INTEGER
    ) WITHOUT ROWID;
    CREATE TABLE audit (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        at INTEGER NOT NULL,
        who TEXT NOT NULL,
        via TEXT NOT NULL,
        what TEXT NOT NULL,
        detail TEXT,
        outcome TEXT NOT NULL
    );
    CREATE INDEX audit_at ON audit (at);
    ",
    // 11: orders to block, and what agents did with them.
    "
    CREATE TABLE block_order (
        id INTEGER PRIMARY KEY,
        value TEXT NOT NULL,
        account TEXT,
        instance TEXT,
        reason TEXT NOT NULL,
        who TEXT NOT NULL,
        added_at INTEGER NOT NULL,
        expires_at INTEGER NOT NULL,
        ended_at INTEGER,
        ended_by TEXT
    );
    CREATE TABLE block_outcome (
        order_id INTEGER NOT NULL,
        agent BLOB NOT NULL,
        act TEXT NOT NULL,
        is_dry_run INTEGER NOT NULL,
        why TEXT,
        at INTEGER NOT NULL,
        flows INTEGER NOT NULL,
        last_flow TEXT,
        last_at INTEGER,
        PRIMARY KEY (order_id, agent)
    ) WITHOUT ROWID;
    ",
    // 12: rules that may page, by what they say.
    "
    CREATE TABLE rule_live (
        id TEXT PRIMARY KEY,
        digest TEXT NOT NULL,
        how TEXT NOT NULL,
        since INTEGER NOT NULL
    ) WITHOUT ROWID;
    ",
    // 13: how far each back-fill is.
    "
    CREATE TABLE backfill (
        name TEXT PRIMARY KEY,
        day TEXT NOT NULL,
        stamp TEXT NOT NULL,
        key TEXT NOT NULL,
        objects INTEGER NOT NULL,
        bytes INTEGER NOT NULL,
        events INTEGER NOT NULL,
        damaged INTEGER NOT NULL,
        started_at INTEGER NOT NULL,
        updated_at INTEGER NOT NULL,
        is_done INTEGER NOT NULL
    ) WITHOUT ROWID;
    ",
    // 14: what is usual for whom.
    "
    CREATE TABLE baseline (
        whose TEXT NOT NULL,
        name TEXT NOT NULL,
        version INTEGER NOT NULL,
        last_at INTEGER NOT NULL,
        body TEXT NOT NULL,
        PRIMARY KEY (whose, name)
    ) WITHOUT ROWID;
    CREATE INDEX baseline_last ON baseline (whose, last_at);
    ",
    // 15: what was analysed, by day, source and account.
    "
    CREATE TABLE usage (
        day TEXT NOT NULL,
        source TEXT NOT NULL,
        account TEXT NOT NULL,
        events INTEGER NOT NULL,
        bytes INTEGER NOT NULL,
        PRIMARY KEY (day, source, account)
    ) WITHOUT ROWID;
    ",
    // 16: and by region. Of what was counted before it is not known.
    "
    CREATE TABLE usage_by_region (
        day TEXT NOT NULL,
        source TEXT NOT NULL,
        account TEXT NOT NULL,
        region TEXT NOT NULL,
        events INTEGER NOT NULL,
        bytes INTEGER NOT NULL,
        PRIMARY KEY (day, source, account, region)
    ) WITHOUT ROWID;
    INSERT INTO usage_by_region SELECT day, source, account, '', events, bytes FROM usage;
    DROP TABLE usage;
    ALTER TABLE usage_by_region RENAME TO usage;
    ",
];

/// Brings the database to the latest version, one step per transaction.
pub(super) fn migrate(connection: &mut Connection) -> Result<(), StoreError> {
    let found: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let known = STEPS.len() as i64;
    if found > known {
        return Err(StoreError::TooNew { found, known });
    }
    for version in found..known {
        let transaction = connection.transaction()?;
        transaction.execute_batch(STEPS[version as usize])?;
        transaction.pragma_update(None, "user_version", version + 1)?;
        transaction.commit()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_opening_changes_nothing() {
        let mut connection = Connection::open_in_memory().unwrap();
        migrate(&mut connection).unwrap();
        migrate(&mut connection).unwrap();
        let version: i64 = connection
            .pragma_query_value(None, "user_version", |row| row.get(0))
            .unwrap();
        assert_eq!(version, STEPS.len() as i64);
    }

    #[test]
    fn a_later_layout_is_refused() {
        let mut connection = Connection::open_in_memory().unwrap();
        connection.pragma_update(None, "user_version", 99).unwrap();
        assert!(matches!(
            migrate(&mut connection),
            Err(StoreError::TooNew { found: 99, .. })
        ));
    }
}
