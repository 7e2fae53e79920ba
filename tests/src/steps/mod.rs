//! A random workload: rows, relations of all kinds, databases, tablespaces, transactions that end or do not, crashes.
//!
//! Names come from the server itself, so the workload goes on from whatever is there. A statement that the server refuses (of a
//! table that cannot be unlogged, say) is a step as well, and its number is known.

mod statements;
mod writers;

use std::fs;

use pgm_proto::Client;

use crate::cluster::{Cluster, StopMode};
use crate::random::Random;
use crate::rows::client;
use statements::{Kind, kinds};

pub use writers::Writers;

const TABLES_MAX: usize = 9;
const DATABASES_MAX: usize = 2;
const TABLESPACES_MAX: usize = 2;
/// Of more bytes, the largest table of a database is emptied.
const BYTES_MAX: &str = "150000000";

/// A workload that goes on step by step.
#[derive(Debug)]
pub struct Steps {
    random: Random,
    kinds: Vec<Kind>,
    /// The next number for a name.
    next: usize,
    /// A client in the middle of a transaction.
    open: Option<Client>,
    taken: usize,
    refused: usize,
}

impl Steps {
    /// Prepares `cluster`, which must allow prepared transactions.
    pub fn new(cluster: &Cluster, random: Random) -> Self {
        for database in ["postgres", "template1"] {
            client(cluster, database)
                .query("create extension amcheck")
                .expect("amcheck is there");
        }
        cluster.sql(
            "create sequence counter; create table held (n bigint); create table prepared (n bigint)",
        );
        cluster.sql(
            "create table busy as select n, md5(n::text) word from generate_series(1, 5000) n",
        );
        cluster.sql("create index on busy (n)");
        let mut steps = Self {
            random,
            kinds: kinds(cluster.major()),
            next: 1,
            open: None,
            taken: 0,
            refused: 0,
        };
        for _ in 0..3 {
            steps.make_table(cluster, "postgres");
        }
        steps.space(cluster);
        steps
    }

    /// How many steps were taken, and how many statements of them the server refused.
    pub const fn counts(&self) -> (usize, usize) {
        (self.taken, self.refused)
    }

    /// The numbers that the steps are drawn from.
    pub const fn random(&mut self) -> &mut Random {
        &mut self.random
    }

    /// Takes a step, and says which.
    pub fn take(&mut self, cluster: &mut Cluster) -> String {
        self.taken += 1;
        match self.random.below(100) {
            0..4 => self.database(cluster),
            4..8 => self.space(cluster),
            8..14 => self.prepared(cluster),
            14..20 => self.held(cluster),
            20..24 => self.restart(cluster),
            _ => self.statements(cluster),
        }
    }

    fn number(&mut self) -> usize {
        self.next += 1;
        self.next
    }

    fn make_table(&mut self, cluster: &Cluster, database: &str) {
        let number = self.number();
        self.run(
            &mut client(cluster, database),
            &format!(
                "create table t{number} (n bigint, word text, tags int[], spot point, big text); \
                 alter table t{number} alter big set storage external; \
                 create index t{number}_n on t{number} (n); insert into t{number} \
                 select n, md5(n::text), array[n % 50], point(n % 100, n % 83) from generate_series(1, 3000) n"
            ),
        );
    }

    /// Runs a statement; gives whether the server took it.
    fn run(&mut self, client: &mut Client, sql: &str) -> bool {
        let Err(error) = client.query(sql) else {
            return true;
        };
        assert!(
            matches!(error, pgm_proto::Error::Server(_)),
            "{sql}\n{error}"
        );
        self.refused += 1;
        let _ = client.query("rollback");
        false
    }

    fn statements(&mut self, cluster: &Cluster) -> String {
        let database = self.some_database(cluster);
        let mut client = client(cluster, &database);
        let _ = client.query("set statement_timeout = '20s'; set lock_timeout = '5s'");
        let tables = names(&mut client, "relkind = 'r' and relname ~ '^t[0-9]'");
        if tables.len() < 2 {
            self.make_table(cluster, &database);
            return format!("{database}: another table");
        }
        if let Some(largest) = too_large(&mut client) {
            let sql = format!("truncate {largest}");
            self.run(&mut client, &sql);
            return format!("{database}: {sql}");
        }
        let number = self.number();
        loop {
            let kind = self.weighed();
            let statements = self.kinds[kind].statements.clone();
            let text = statements.join("; ");
            let full = tables.len() >= TABLES_MAX && text.contains("create table t{new}");
            let waits = self.open.is_some() && text.contains("concurrently");
            if full || waits {
                continue;
            }
            let Some(places) = self.places(cluster, &mut client, &tables, number, &text) else {
                continue;
            };
            let mut said = Vec::new();
            for statement in statements {
                let mut sql = statement;
                for (place, name) in &places {
                    sql = sql.replace(place, name);
                }
                for (place, below) in [("{few}", 20), ("{many}", 4000)] {
                    while sql.contains(place) {
                        sql = sql.replacen(place, &self.random.below(below).to_string(), 1);
                    }
                }
                let taken = self.run(&mut client, &sql);
                said.push(if taken {
                    sql
                } else {
                    format!("(refused) {sql}")
                });
            }
            return format!("{database}: {}", said.join("; "));
        }
    }

    /// The names for the places of `text`, if there are such.
    fn places(
        &mut self,
        cluster: &Cluster,
        client: &mut Client,
        tables: &[String],
        number: usize,
        text: &str,
    ) -> Option<Vec<(&'static str, String)>> {
        let mut places = vec![("{new}", number.to_string())];
        places.push(("{folder}", cluster.folder().display().to_string()));
        places.push(("{t}", self.random.pick(tables)?.clone()));
        for (place, condition) in [
            ("{extra}", "relkind = 'i' and relname ~ '^x[0-9]'"),
            ("{view}", "relkind = 'm'"),
        ] {
            if text.contains(place) {
                let found = names(client, condition);
                places.push((place, self.random.pick(&found)?.clone()));
            }
        }
        if text.contains("{space}") {
            places.push(("{space}", self.random.pick(&spaces(cluster))?.clone()));
        }
        Some(places)
    }

    fn weighed(&mut self) -> usize {
        let all = self.kinds.iter().map(|kind| kind.weight).sum();
        let mut drawn = self.random.below(all);
        self.kinds
            .iter()
            .position(|kind| {
                let is_it = drawn < kind.weight;
                drawn = drawn.saturating_sub(kind.weight);
                is_it
            })
            .unwrap_or(0)
    }

    /// Mostly the first one.
    fn some_database(&mut self, cluster: &Cluster) -> String {
        let others = databases(cluster);
        let other = self.random.pick(&others).cloned();
        other
            .filter(|_| self.random.percent(30))
            .unwrap_or_else(|| "postgres".to_owned())
    }

    /// Makes, moves, renames or drops a database.
    fn database(&mut self, cluster: &Cluster) -> String {
        let others = databases(cluster);
        let number = self.number();
        let other = self.random.pick(&others).cloned();
        let space = self.random.pick(&spaces(cluster)).cloned();
        let sql = match (other, self.random.below(4)) {
            (Some(other), 0) => format!("drop database {other}"),
            (Some(other), 1) => format!("alter database {other} rename to d{number}"),
            (Some(other), 2) => {
                let space = space.filter(|_| self.random.percent(70));
                let space = space.unwrap_or_else(|| "pg_default".to_owned());
                format!("alter database {other} set tablespace {space}")
            }
            (Some(other), _) if others.len() >= DATABASES_MAX => format!("drop database {other}"),
            (other, _) => {
                let template = other.unwrap_or_else(|| "template1".to_owned());
                let strategies = ["", "strategy file_copy", "strategy wal_log"];
                let known = if cluster.major().number() >= 15 { 3 } else { 1 };
                let strategy = strategies[self.random.below(known)];
                let space = space.filter(|_| self.random.percent(30));
                let space = space.map_or_else(String::new, |space| format!("tablespace {space}"));
                format!("create database d{number} template {template} {strategy} {space}")
            }
        };
        let taken = self.run(&mut cluster.client(), &sql);
        format!("{sql}{}", if taken { "" } else { " (refused)" })
    }

    /// Makes a tablespace or drops one, for which everything moves away from it.
    fn space(&mut self, cluster: &Cluster) -> String {
        let there = spaces(cluster);
        let drops = there.len() >= TABLESPACES_MAX || self.random.percent(30);
        if let Some(space) = self.random.pick(&there).cloned().filter(|_| drops) {
            for database in databases(cluster).into_iter().chain(["postgres".into()]) {
                let mut client = client(cluster, &database);
                for kind in ["table", "index", "materialized view"] {
                    let sql =
                        format!("alter {kind} all in tablespace {space} set tablespace pg_default");
                    self.run(&mut client, &sql);
                }
            }
            let sql = format!("drop tablespace {space}");
            let taken = self.run(&mut cluster.client(), &sql);
            return format!("{sql}{}", if taken { "" } else { " (refused)" });
        }
        let name = format!("s{}", self.number());
        let folder = cluster.folder().join("tablespaces").join(&name);
        fs::create_dir_all(&folder).expect("the folder of a tablespace can be made");
        let sql = format!("create tablespace {name} location '{}'", folder.display());
        self.run(&mut cluster.client(), &sql);
        sql
    }

    /// Prepares a transaction, or ends one.
    fn prepared(&mut self, cluster: &Cluster) -> String {
        let mut client = cluster.client();
        let there = column(&mut client, "select gid from pg_prepared_xacts order by 1");
        let number = self.number();
        let sql = match (self.random.pick(&there).cloned(), self.random.below(3)) {
            (Some(name), 0) => format!("commit prepared '{name}'"),
            (Some(name), 1) => format!("rollback prepared '{name}'"),
            _ if there.len() >= 3 => return "enough is prepared".to_owned(),
            _ => format!(
                "begin; insert into prepared select generate_series(1, 500); savepoint one; \
                 create table prepared{number} as select * from prepared; create index on prepared{number} (n); \
                 prepare transaction 'p{number}'"
            ),
        };
        self.run(&mut client, &sql);
        sql
    }

    /// Begins a transaction that stays open, goes on in it, or ends it.
    fn held(&mut self, cluster: &Cluster) -> String {
        let (mut client, sql) = match self.open.take() {
            None => (
                cluster.client(),
                "begin; insert into held select generate_series(1, 3000); \
                 create temp table mine as select generate_series(1, 20000) n; create table never (n int)",
            ),
            Some(mut client) => {
                let end = ["commit", "rollback"][self.random.below(2)];
                if self.random.percent(60) {
                    self.run(&mut client, "drop table never; drop table mine");
                    self.run(&mut client, end);
                    return format!("{end} of what was open");
                }
                (client, "insert into held select generate_series(1, 3000)")
            }
        };
        self.run(&mut client, sql);
        self.open = Some(client);
        format!("open: {sql}")
    }

    fn restart(&mut self, cluster: &mut Cluster) -> String {
        self.open = None;
        let how = [StopMode::Fast, StopMode::Immediate][self.random.below(2)];
        cluster.stop(how);
        cluster.start();
        cluster.wait_writable();
        format!("stopped ({how:?}) and started")
    }

    /// Ends what is open, so that nobody else changes anything.
    pub fn let_go(&mut self) {
        if let Some(mut client) = self.open.take() {
            self.run(&mut client, "rollback");
        }
    }
}

fn column(client: &mut Client, sql: &str) -> Vec<String> {
    let results = client.query(sql);
    let results = results.unwrap_or_else(|error| panic!("{sql}\n{error}"));
    let rows = results.into_iter().next_back().unwrap_or_default().rows;
    rows.into_iter().flatten().flatten().collect()
}

/// Relations of the database.
fn names(client: &mut Client, condition: &str) -> Vec<String> {
    let sql = format!(
        "select relname from pg_class where relnamespace = 'public'::regnamespace and {condition} order by 1"
    );
    column(client, &sql)
}

/// The largest table, if all together are large.
fn too_large(client: &mut Client) -> Option<String> {
    let sql = format!(
        "select relname from pg_class where relkind = 'r' and relname ~ '^t[0-9]' \
         and pg_database_size(current_database()) > {BYTES_MAX} order by pg_total_relation_size(oid) desc limit 1"
    );
    column(client, &sql).pop()
}

/// The databases that come and go.
fn databases(cluster: &Cluster) -> Vec<String> {
    let sql = "select datname from pg_database where datname ~ '^d[0-9]' order by 1";
    column(&mut cluster.client(), sql)
}

/// The tablespaces that come and go.
fn spaces(cluster: &Cluster) -> Vec<String> {
    let sql = "select spcname from pg_tablespace where spcname ~ '^s[0-9]' order by 1";
    column(&mut cluster.client(), sql)
}
