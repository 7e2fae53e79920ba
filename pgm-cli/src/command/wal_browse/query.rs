//! Which records are listed, as it is typed: `rmgr=heap rel=16384 xid=745 some words`.

use std::fmt;

use pgm_wal::record::Record;
use pgm_wal::record::describe::{describe, resource_manager_name, write_blocks, write_operation};

use crate::arguments::{RelationFilter, parse_manager, parse_relation};

/// Lets records through that all parts of it let through; an empty one lets through all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Query {
    pub(super) managers: Vec<u8>,
    pub(super) relation: Option<RelationFilter>,
    pub(super) xids: Vec<u32>,
    /// In lower case; a part of what is shown of the record.
    pub(super) text: String,
}

impl Query {
    /// Reads what was typed.
    pub(super) fn parse(typed: &str) -> Result<Self, String> {
        let mut query = Self::default();
        for word in typed.split_whitespace() {
            match word.split_once('=') {
                Some(("rmgr", name)) => query.managers.push(parse_manager(name)?),
                Some(("rel", name)) => query.relation = Some(parse_relation(name)?),
                Some(("xid", number)) => {
                    let xid = number.parse();
                    query
                        .xids
                        .push(xid.map_err(|_| format!("`{number}` is no transaction's number"))?);
                }
                _ => {
                    if !query.text.is_empty() {
                        query.text.push(' ');
                    }
                    query.text.push_str(&word.to_lowercase());
                }
            }
        }
        Ok(query)
    }

    /// Whether it lets `record` through; `scratch` is used for putting the record into words.
    pub(super) fn lets_through(&self, record: &Record<'_>, scratch: &mut String) -> bool {
        let by_manager =
            self.managers.is_empty() || self.managers.contains(&record.resource_manager);
        let by_xid = self.xids.is_empty()
            || self.xids.contains(&record.xid)
            || record
                .top_level_xid
                .is_some_and(|xid| self.xids.contains(&xid));
        if !by_manager || !by_xid || !self.relation.is_none_or(|wanted| wanted.is_in(record)) {
            return false;
        }
        if self.text.is_empty() {
            return true;
        }
        scratch.clear();
        write_operation(record, scratch);
        scratch.push(' ');
        describe(record, scratch);
        write_blocks(record, scratch);
        scratch.make_ascii_lowercase();
        scratch.contains(&self.text)
    }
}

impl fmt::Display for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        let mut put = |f: &mut fmt::Formatter<'_>, part: fmt::Arguments<'_>| {
            let before = std::mem::replace(&mut separator, " ");
            write!(f, "{before}{part}")
        };
        for manager in &self.managers {
            put(f, format_args!("rmgr={}", resource_manager_name(*manager)))?;
        }
        if let Some(relation) = self.relation {
            put(f, format_args!("rel={relation}"))?;
        }
        for xid in &self.xids {
            put(f, format_args!("xid={xid}"))?;
        }
        if !self.text.is_empty() {
            put(f, format_args!("{}", self.text))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_typed_is_understood_and_shown_again() {
        let query = Query::parse("rmgr=heap xid=7 rel=1663/5/16384 Off: 3").unwrap();
        assert_eq!(query.managers, [10]);
        assert_eq!(query.to_string(), "rmgr=Heap rel=1663/5/16384 xid=7 off: 3");
        assert_eq!(Query::parse(&query.to_string()).unwrap(), query);
        assert_eq!(Query::parse("  ").unwrap(), Query::default());
        for wrong in ["rmgr=nothing", "xid=a", "rel=1/2/3/4"] {
            assert!(Query::parse(wrong).is_err(), "{wrong}");
        }
    }
}
