//! Which queries the console hands to the node: those that read what waits for the peers, and nothing else that the node knows.
//!
//! They run as the proxy's own role, which may read the journal and its key; the one who asks may only be allowed to look.

use crate::sql::LexOptions;
use crate::sql::statement::{Kind, Written, read};

/// What can be read.
const VIEW: &str = "sync_err_rec";

/// Where it is.
const SCHEMA: &str = "pgcanon";

/// Functions that say nothing but what their arguments do, or what time it is, and what pools of connections call for fear of
/// locks. Among them are words that stand before a parenthesis and call nothing.
const FUNCTIONS: &[&str] = &[
    "abs",
    "age",
    "array_agg",
    "avg",
    "bool_and",
    "bool_or",
    "btrim",
    "cast",
    "ceil",
    "char",
    "char_length",
    "clock_timestamp",
    "coalesce",
    "concat",
    "concat_ws",
    "count",
    "current_database",
    "date_part",
    "date_trunc",
    "decimal",
    "dense_rank",
    "extract",
    "first_value",
    "floor",
    "greatest",
    "initcap",
    "interval",
    "json_agg",
    "json_build_object",
    "jsonb_agg",
    "jsonb_build_object",
    "lag",
    "last_value",
    "lead",
    "least",
    "left",
    "length",
    "lower",
    "ltrim",
    "max",
    "md5",
    "min",
    "mod",
    "now",
    "nullif",
    "numeric",
    "octet_length",
    "overlay",
    "pg_advisory_unlock_all",
    "position",
    "rank",
    "regexp_match",
    "regexp_replace",
    "replace",
    "reverse",
    "right",
    "round",
    "row",
    "row_number",
    "row_to_json",
    "rtrim",
    "split_part",
    "starts_with",
    "string_agg",
    "strpos",
    "substr",
    "substring",
    "sum",
    "time",
    "timestamp",
    "timestamptz",
    "to_char",
    "to_json",
    "to_jsonb",
    "translate",
    "trim",
    "trunc",
    "upper",
    "varchar",
    "version",
];

/// Why a query is not for the console, if it is not.
pub(super) fn check(sql: &[u8]) -> Result<(), String> {
    let statement = read(sql, LexOptions::default());
    if !matches!(statement.kind, Kind::Select { into: None })
        || statement.with.is_some_and(|w| w.ctes.iter().any(|c| c.writes.is_some()))
    {
        return Err("this is no query that the console can answer".to_owned());
    }
    for relation in &statement.relations {
        if !is(relation, VIEW, SCHEMA) {
            return Err(format!("the console reads {VIEW}, and no \"{}\"", shown(relation)));
        }
    }
    for call in &statement.calls {
        if !FUNCTIONS.iter().any(|function| is(call, function, "pg_catalog")) {
            return Err(format!("the console does not know the function \"{}\"", shown(call)));
        }
    }
    Ok(())
}

fn is(written: &Written, name: &str, schema: &str) -> bool {
    written.name.as_bytes() == name.as_bytes() && written.schema.is_none_or(|s| s.as_bytes() == schema.as_bytes())
}

fn shown(written: &Written) -> String {
    let part = |name: &crate::sql::Name| String::from_utf8_lossy(name.as_bytes()).into_owned();
    let schema = written.schema.as_ref().map(|s| part(s) + ".").unwrap_or_default();
    schema + &part(&written.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_can_be_read_in_every_way() {
        for sql in [
            "select * from sync_err_rec",
            "select count(*) from pgcanon.sync_err_rec where dst_server = $1",
            "select dst_server, count(*), min(create_time) from sync_err_rec group by 1 having count(*) > 1 order by 2 desc limit 3",
            "select extract(epoch from now() - create_time)::int from sync_err_rec s where s.message like '%x%'",
            "with some as (select * from sync_err_rec limit 5) select id, left(dst_query, 40) from some",
            "select id from sync_err_rec where id in (select max(id) from sync_err_rec) and (attempts > 0 or parked)",
            "select a.id from sync_err_rec a join sync_err_rec b on (a.id = b.id)",
            "select trim(both ' ' from dst_query), substring(message from 1 for 3) from sync_err_rec",
            "select 1",
            "select version(), coalesce(null, 'x')",
            "(select id from sync_err_rec) union all (select 2)",
        ] {
            assert_eq!(check(sql.as_bytes()), Ok(()), "{sql}");
        }
    }

    #[test]
    fn nothing_else_can() {
        for sql in [
            "select * from meta",
            "select * from sync_err_rec, meta",
            "select * from sync_err_rec s join pgcanon.meta m on true",
            "select (select value from meta limit 1) from sync_err_rec",
            "select (table meta) from sync_err_rec",
            "select * from sync_err_rec where exists (select from pg_authid)",
            "select * from public.sync_err_rec",
            "select * from \"Sync_err_rec\"",
            "with sync_err_rec as (select * from meta) select * from sync_err_rec",
            "with m as (delete from error_queue returning *) select * from sync_err_rec",
            "select pg_read_file('x') from sync_err_rec",
            "select query_to_xml('select * from meta', true, true, '') from sync_err_rec",
            "select pgcanon.count(*) from sync_err_rec",
            "select \"pg_sleep\"(1) from sync_err_rec",
            "select pg_catalog.pg_sleep(1), id from sync_err_rec",
            "select * into x from sync_err_rec",
            "select * from lateral pg_ls_dir('/') d, sync_err_rec",
            "select * from rows from (pg_ls_dir('/')) d, sync_err_rec",
            "explain select * from sync_err_rec",
        ] {
            assert!(check(sql.as_bytes()).is_err(), "{sql}");
        }
    }
}
