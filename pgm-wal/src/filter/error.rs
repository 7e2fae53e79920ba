//! Why WAL cannot be filtered.

use std::io;
use std::path::{Path, PathBuf};

use pgm_proto::Lsn;

use super::Dependent;
use crate::record::{RecordError, RelationFile, RelationNames};

/// WAL cannot be filtered as it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum FilterError {
    /// The WAL cannot be read.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// No commit of the transaction is in the WAL.
    #[error("the WAL has no commit of transaction {xid}")]
    NotCommitted {
        /// The transaction.
        xid: u32,
    },
    /// There is nothing to leave out.
    #[error("transaction {xid} was rolled back anyway")]
    RolledBack {
        /// The transaction.
        xid: u32,
    },
    /// The WAL may lack what the transaction did first.
    #[error("transaction {xid} may have begun before {start}, where the WAL begins")]
    BeganBefore {
        /// The transaction.
        xid: u32,
        /// Where the WAL begins.
        start: Lsn,
    },
    /// Other transactions depend on what is to be left out.
    #[error("{}", dependents_in_words(dependents, names))]
    Dependents {
        /// They.
        dependents: Vec<Dependent>,
        /// Names of relations.
        names: Box<RelationNames>,
    },
    /// Leaving out would damage something.
    #[error("{}", obstacles_in_words(obstacles, names))]
    Obstacles {
        /// What is in the way; not all, if there are many.
        obstacles: Vec<Obstacle>,
        /// Names of relations.
        names: Box<RelationNames>,
    },
    /// The folder for the result has files in it.
    #[error("{} is not empty", folder.display())]
    NotEmpty {
        /// The folder.
        folder: PathBuf,
    },
    /// The file system refused.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// Something that is in the way of leaving out a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Obstacle {
    /// The record that shows it.
    pub lsn: Lsn,
    /// The relation concerned.
    pub relation: Option<RelationFile>,
    /// What it is.
    pub kind: ObstacleKind,
}

/// What can be in the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ObstacleKind {
    /// Rows that would have to come back were removed for good.
    RowsGone,
    /// Rows that would have to disappear are visible whatever became of their transaction.
    RowsFrozen,
    /// A compressed image that would have to be changed does not fit into its place then.
    CompressedImage,
    /// A catalog that is found through a map, not through `pg_class`, was rewritten.
    CatalogRewritten,
    /// The record contradicts itself, or is longer than can be changed.
    Unreadable,
}

impl ObstacleKind {
    const fn words(self) -> &'static str {
        match self {
            Self::RowsGone => {
                "rows that would have to come back were removed for good by vacuum or pruning"
            }
            Self::RowsFrozen => "rows that would have to disappear were frozen by vacuum",
            Self::CompressedImage => {
                "a compressed page image says that the transaction has committed, and does not fit into its place without that"
            }
            Self::CatalogRewritten => "the transaction rewrote a system catalog",
            Self::Unreadable => "the record cannot be understood",
        }
    }
}

impl FilterError {
    pub(super) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io {
            action,
            path: path.to_owned(),
            source,
        }
    }

    /// What to do next.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Record(error) => return error.hint(),
            Self::NotCommitted { .. } | Self::RolledBack { .. } => {
                "`pgm-cli wal find --xid` shows where a transaction ended; a part of a transaction is committed with it"
                    .to_owned()
            }
            Self::BeganBefore { .. } => {
                "begin with the segment in which the backup begins, so that there is a checkpoint before the transaction"
                    .to_owned()
            }
            Self::Dependents { .. } => {
                "leave them out, too, with --with-dependents, or restore to the position before the transaction"
                    .to_owned()
            }
            Self::Obstacles { obstacles, .. } => {
                let first = obstacles.iter().map(|one| one.lsn).min()?;
                format!(
                    "the WAL can be filtered up to {first}, with --end, or restored to the position before the transaction"
                )
            }
            Self::NotEmpty { .. } => "name a folder that does not exist yet".to_owned(),
            Self::Io { .. } => return None,
        })
    }
}

/// A relation by its name, if it is known, and by its file.
fn relation_in_words(relation: RelationFile, names: &RelationNames) -> String {
    match names.name(relation) {
        Some(name) => format!("{name} ({relation})"),
        None => format!("file {relation}"),
    }
}

fn dependents_in_words(dependents: &[Dependent], names: &RelationNames) -> String {
    const SHOWN: usize = 10;
    let mut lines: Vec<String> = dependents
        .iter()
        .take(SHOWN)
        .map(|Dependent { transaction, why }| {
            format!(
                "transaction {}: {} {}, at {}",
                transaction.xid,
                why.kind.words(),
                relation_in_words(why.relation, names),
                why.lsn
            )
        })
        .collect();
    if dependents.len() > SHOWN {
        lines.push(format!("and {} more", dependents.len() - SHOWN));
    }
    format!(
        "other transactions depend on what is to be left out: {}",
        lines.join("; ")
    )
}

fn obstacles_in_words(obstacles: &[Obstacle], names: &RelationNames) -> String {
    let lines: Vec<String> = obstacles
        .iter()
        .map(|obstacle| {
            let place = obstacle
                .relation
                .map(|relation| format!(" in {}", relation_in_words(relation, names)));
            let place = place.unwrap_or_default();
            format!("at {}{place}: {}", obstacle.lsn, obstacle.kind.words())
        })
        .collect();
    format!("the transaction cannot be left out: {}", lines.join("; "))
}
