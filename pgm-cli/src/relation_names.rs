//! Names of relations instead of the numbers of their files, from a server that runs.
//!
//! The catalog of one database tells the names of its relations and of those that all databases share; the files of mapped
//! catalogs and of tables that were rewritten are told by `pg_relation_filenode`. A server tells the names as they are now:
//! a file that a table had before it was rewritten has none.

use std::collections::HashMap;

use pgm_proto::{Client, ConnInfo, Session};

use crate::command::connection_defaults;
use crate::error::{CliError, Failure, chain};

/// Shared relations belong to no database: their files are recorded with 0.
const FILES: &str = "\
SELECT CASE WHEN c.relisshared THEN 0 ELSE d.oid END, pg_catalog.pg_relation_filenode(c.oid), n.nspname, c.relname
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_database d ON d.datname = pg_catalog.current_database()
WHERE pg_catalog.pg_relation_filenode(c.oid) IS NOT NULL";

/// The names of relations by database and file.
#[derive(Debug, Clone, Default)]
pub(crate) struct RelationLabels {
    names: HashMap<(u32, u32), String>,
}

impl RelationLabels {
    /// Those of the database that `conninfo` connects to; none without it.
    pub(crate) fn read(conninfo: Option<&str>) -> Result<Self, CliError> {
        let Some(conninfo) = conninfo else {
            return Ok(Self::default());
        };
        let conninfo: ConnInfo = conninfo
            .parse()
            .map_err(|error| CliError::new(Failure::Usage, error, None))?;
        let failed =
            |error: pgm_proto::Error| CliError::new(Failure::Failed, chain(&error), error.hint());
        let conninfo = conninfo.with_defaults(&connection_defaults());
        let mut client = Client::connect(&conninfo, Session::Sql).map_err(failed)?;
        let results = client.query(FILES).map_err(failed)?;
        let rows = results.into_iter().flat_map(|result| result.rows);
        let names = rows.filter_map(|row| {
            let [database, file, schema, name] = <[Option<String>; 4]>::try_from(row).ok()?;
            let key = (database?.parse().ok()?, file?.parse().ok()?);
            Some((key, format!("{}.{}", schema?, name?)))
        });
        Ok(Self {
            names: names.collect(),
        })
    }

    /// Whether no name is known.
    pub(crate) fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// The name of the relation with this file.
    pub(crate) fn name(&self, database: u32, file: u32) -> Option<&str> {
        self.names.get(&(database, file)).map(String::as_str)
    }

    /// Appends `line` to `out`, with names behind the files that it mentions, as `1663/5/16384` or as `base/5/16384`.
    pub(crate) fn annotate(&self, line: &str, out: &mut String) {
        let mut written = 0;
        let mut before: Option<&str> = None;
        for (begin, word) in paths(line) {
            // Two numbers, and a third one or a folder before them.
            let mut parts = word.rsplit('/');
            let number = |part: Option<&str>| part.and_then(|part| part.parse::<u32>().ok());
            let (file, database) = (parts.next(), parts.next());
            let name = match (number(file), database) {
                (Some(file), Some("global")) => self.name(0, file),
                (Some(file), database) if parts.next().is_some() => {
                    number(database).and_then(|database| self.name(database, file))
                }
                _ => None,
            };
            if let Some(name) = name.filter(|name| before != Some(name)) {
                let end = begin + word.len();
                out.push_str(&line[written..end]);
                out.push_str(" (");
                out.push_str(name);
                out.push(')');
                written = end;
                before = Some(name);
            }
        }
        out.push_str(&line[written..]);
    }
}

/// The words of `line` that have a slash, and where they begin.
fn paths(line: &str) -> impl Iterator<Item = (usize, &str)> {
    let is_part = |character: char| character.is_ascii_alphanumeric() || "/_".contains(character);
    let words = line.split(move |character| !is_part(character));
    words
        .filter(|word| word.contains('/'))
        .map(move |word| (word.as_ptr().addr() - line.as_ptr().addr(), word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn annotated(line: &str) -> String {
        let labels = RelationLabels {
            names: HashMap::from([
                ((5, 16384), "public.t".to_owned()),
                ((0, 1260), "pg_catalog.pg_authid".to_owned()),
            ]),
        };
        let mut out = String::new();
        labels.annotate(line, &mut out);
        out
    }

    #[test]
    fn files_in_a_line_get_their_names() {
        for (line, expected) in [
            (
                "blkref #0: rel 1663/5/16384 blk 3",
                "blkref #0: rel 1663/5/16384 (public.t) blk 3",
            ),
            (
                "rels: base/5/16384; base/5/16385",
                "rels: base/5/16384 (public.t); base/5/16385",
            ),
            (
                "desc: CREATE global/1260",
                "desc: CREATE global/1260 (pg_catalog.pg_authid)",
            ),
            ("lsn: 5/16384, prev 0/1260", "lsn: 5/16384, prev 0/1260"),
            (
                "rel 1663/5/16384 blk 1, rel 1663/5/16384 blk 2",
                "rel 1663/5/16384 (public.t) blk 1, rel 1663/5/16384 blk 2",
            ),
            ("ä 1663/5/16384_vm", "ä 1663/5/16384_vm"),
        ] {
            assert_eq!(annotated(line), expected);
        }
    }
}
