//! Everything that clients can read of a server, in a form that two servers can be compared by.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use pgm_proto::{Client, ConnInfo, Session};

use crate::cluster::Cluster;

/// How far ahead of what was used a sequence may be after recovery (`SEQ_LOG_VALS` in `sequence.c`).
const SEQUENCE_AHEAD: i64 = 32;

/// The tables, and what stands for all else that has rows.
const RELATIONS: &str = "select c.relname, c.relkind::text, c.relpersistence::text from pg_class c \
     where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'm', 'S') order by 1";

/// What is in a server.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rows {
    /// By database and name: how many rows and a sum over them, or whatever tells one state from another.
    texts: BTreeMap<String, String>,
    /// By database and name: the last value of a sequence.
    sequences: BTreeMap<String, i64>,
}

impl Rows {
    /// Reads every table, materialized view, sequence and large object of every database, each index where it helps, and which
    /// transactions are prepared. Of unlogged tables a restored server has no rows, so what they hold does not count.
    pub fn of(cluster: &Cluster) -> Self {
        let mut rows = Self::default();
        let databases = cluster.sql(
            "select datname from pg_database where datallowconn and datname <> 'template0' order by 1",
        );
        for database in databases.iter().map(|row| &row[0]) {
            rows.add_database(&mut client(cluster, database), database);
        }
        for (what, sql) in [
            (
                "prepared",
                "select string_agg(gid, ',' order by gid) from pg_prepared_xacts",
            ),
            (
                "databases",
                "select string_agg(datname, ',' order by datname) from pg_database",
            ),
            (
                "tablespaces",
                "select string_agg(spcname, ',' order by spcname) from pg_tablespace",
            ),
        ] {
            rows.texts.insert(what.to_owned(), cluster.value(sql));
        }
        rows
    }

    fn add_database(&mut self, client: &mut Client, database: &str) {
        let relations = ask(client, RELATIONS);
        for relation in &relations {
            let [name, kind, persistence] = relation.as_slice() else {
                continue;
            };
            let key = format!("{database}.{name}");
            if kind == "S" {
                let value = ask(client, &format!("select last_value from public.\"{name}\""));
                let value = value[0][0].parse().expect("a number");
                self.sequences.insert(key, value);
                continue;
            }
            let mut text = format!("{kind}{persistence}");
            if persistence == "p" {
                text += &sums(client, name);
            }
            self.texts.insert(key, text);
        }
        let objects = ask(
            client,
            "select count(*), sum(hashtext(encode(data, 'hex') || loid || pageno)::bigint) from pg_largeobject",
        );
        let key = format!("{database}: large objects");
        self.texts.insert(key, objects[0].join(" "));
    }

    /// In what a server that was restored to this state differs.
    pub fn differences(&self, restored: &Self) -> Vec<String> {
        let mut found = Vec::new();
        let names = self.texts.keys().chain(restored.texts.keys());
        let names: std::collections::BTreeSet<_> = names.collect();
        for name in names {
            let (here, there) = (self.texts.get(name), restored.texts.get(name));
            if here != there {
                found.push(format!("{name}: {here:?}, restored {there:?}"));
            }
        }
        for (name, value) in &self.sequences {
            let there = restored.sequences.get(name);
            // Recovery goes to the end of the values that were logged in advance.
            if there.is_none_or(|there| !(*value..=value + SEQUENCE_AHEAD).contains(there)) {
                found.push(format!("sequence {name}: {value}, restored {there:?}"));
            }
        }
        found
    }
}

/// The rows of a table as a scan and as its indexes find them.
fn sums(client: &mut Client, table: &str) -> String {
    let mut text = String::new();
    let all = format!("from public.\"{table}\" t");
    let whole = format!("select count(*), sum(hashtext(t::text)::bigint) {all}");
    let scanned = ask(client, &format!("set enable_seqscan = on; {whole}"));
    let _ = write!(text, " {}", scanned[0].join(" "));
    let columns = ask(
        client,
        &format!(
            "select attname from pg_attribute where attrelid = 'public.\"{table}\"'::regclass and attnum > 0"
        ),
    );
    let has = |name: &str| columns.iter().any(|row| row[0] == name);
    for (column, condition) in [
        ("n", "n between 10 and 400"),
        (
            "word",
            "word = any (array(select md5(n::text) from generate_series(1, 40) n))",
        ),
        ("tags", "tags @> '{3}'"),
        ("spot", "spot <@ box '((0,0),(40,40))'"),
    ] {
        if has(column) {
            let sql = format!("set enable_seqscan = off; {whole} where {condition}");
            let _ = write!(text, ", {column} {}", ask(client, &sql)[0].join(" "));
        }
    }
    text
}

/// A session as the superuser in a database.
pub(crate) fn client(cluster: &Cluster, database: &str) -> Client {
    let conninfo = cluster.conninfo_superuser();
    let conninfo = conninfo.replace("dbname=postgres", &format!("dbname={database}"));
    let conninfo: ConnInfo = conninfo.parse().expect("the kit's own connection string");
    Client::connect(&conninfo, Session::Sql).unwrap_or_else(|error| panic!("{database}: {error}"))
}

/// The rows of the last statement; a NULL is empty.
fn ask(client: &mut Client, sql: &str) -> Vec<Vec<String>> {
    let results = client.query(sql);
    let results = results.unwrap_or_else(|error| panic!("{sql}\n{error}"));
    let rows = results.into_iter().next_back().unwrap_or_default().rows;
    rows.into_iter()
        .map(|row| row.into_iter().map(Option::unwrap_or_default).collect())
        .collect()
}
