//! Numbers and sizes of records, in the shape of `pg_waldump --stats`.

use std::io::{self, Write};

use pgm_proto::Lsn;
use pgm_wal::record::describe::{operation_name, resource_manager_name, resource_managers};
use pgm_wal::record::{RESOURCE_MANAGER_TRANSACTION, Record, WalVersion};
use serde_json::json;

use crate::arguments::WalStats;

const MANAGERS: usize = 256;
const OPERATIONS: usize = 16;

#[derive(Debug, Clone, Copy, Default)]
struct Sum {
    count: u64,
    record: u64,
    images: u64,
}

impl Sum {
    fn add(&mut self, other: Self) {
        self.count += other.count;
        self.record += other.record;
        self.images += other.images;
    }
}

/// Counts records by resource manager and operation.
pub(in crate::command) struct Stats {
    by: WalStats,
    sums: Vec<[Sum; OPERATIONS]>,
    first: Option<Lsn>,
    end: Lsn,
    version: WalVersion,
}

impl Stats {
    pub(in crate::command) fn new(by: WalStats) -> Self {
        Self {
            by,
            sums: vec![[Sum::default(); OPERATIONS]; MANAGERS],
            first: None,
            end: Lsn::INVALID,
            version: WalVersion::V18,
        }
    }

    pub(in crate::command) fn count(&mut self, record: &Record<'_>) {
        self.first.get_or_insert(record.lsn);
        self.end = record.end_lsn;
        self.version = record.version;
        let mut operation = usize::from(record.info >> 4);
        if record.resource_manager == RESOURCE_MANAGER_TRANSACTION {
            // The upper bit is a flag.
            operation &= 0x07;
        }
        self.sums[usize::from(record.resource_manager)][operation].add(Sum {
            count: 1,
            record: u64::from(record.total_len - record.images_len),
            images: u64::from(record.images_len),
        });
    }

    fn total(&self) -> Sum {
        let mut total = Sum::default();
        for sum in self.sums.iter().flatten() {
            total.add(*sum);
        }
        total
    }

    /// The lines: a name and what it sums up.
    fn rows(&self) -> Vec<(String, Sum)> {
        let built_in = resource_managers().len();
        let mut rows = Vec::new();
        for (manager, sums) in self.sums.iter().enumerate() {
            let name = resource_manager_name(manager as u8);
            if self.by == WalStats::Rmgr {
                let mut sum = Sum::default();
                for part in sums {
                    sum.add(*part);
                }
                if sum.count > 0 || manager < built_in {
                    rows.push((name.into_owned(), sum));
                }
                continue;
            }
            for (operation, sum) in sums.iter().enumerate().filter(|(_, sum)| sum.count > 0) {
                let info = (operation << 4) as u8;
                let operation = match operation_name(manager as u8, info, self.version) {
                    Some(operation) => operation.to_owned(),
                    None => format!("UNKNOWN ({info:x})"),
                };
                rows.push((format!("{name}/{operation}"), *sum));
            }
        }
        rows
    }

    pub(super) fn write_table(&self, out: &mut impl Write) -> io::Result<()> {
        let Some(first) = self.first else {
            return Ok(());
        };
        writeln!(out, "WAL statistics between {first} and {}:", self.end)?;
        for titles in [
            [
                "Type",
                "N",
                "(%)",
                "Record size",
                "FPI size",
                "Combined size",
            ],
            [
                "----",
                "-",
                "---",
                "-----------",
                "--------",
                "-------------",
            ],
        ] {
            let [name, count, percent, record, images, all] = titles;
            writeln!(
                out,
                "{name:<27} {count:>20} {percent:>8} {record:>20} {percent:>8} {images:>20} {percent:>8} {all:>20} {percent:>8}"
            )?;
        }
        let total = self.total();
        let all = total.record + total.images;
        for (name, sum) in self.rows() {
            write!(out, "{name:<27} ")?;
            let columns = [
                (sum.count, total.count),
                (sum.record, total.record),
                (sum.images, total.images),
                (sum.record + sum.images, all),
            ];
            for (index, (part, whole)) in columns.into_iter().enumerate() {
                let separator = if index == 0 { "" } else { " " };
                write!(out, "{separator}{part:>20} ({:>6.2})", percent(part, whole))?;
            }
            writeln!(out)?;
        }
        let line = "--------";
        writeln!(
            out,
            "{:<27} {line:>20} {:>8} {line:>20} {:>8} {line:>20} {:>8} {line:>20}",
            "", "", "", ""
        )?;
        let share = |part| format!("[{:.2}%]", percent(part, all));
        writeln!(
            out,
            "{:<27} {:>20} {:<9}{:>20} {:<9}{:>20} {:<9}{:>20} {:<6}",
            "Total",
            total.count,
            "",
            total.record,
            share(total.record),
            total.images,
            share(total.images),
            all,
            "[100%]"
        )
    }

    /// A narrower table, for a screen.
    pub(in crate::command) fn lines(&self) -> Vec<String> {
        let (first, total) = (self.first.unwrap_or(self.end), self.total());
        let all = total.record + total.images;
        let mut lines = vec![
            format!("from {first} to {}", self.end),
            format!(
                "{:<28} {:>12} {:>6} {:>14} {:>14} {:>6}",
                "type", "records", "%", "record bytes", "image bytes", "%"
            ),
        ];
        let mut line = |name: &str, sum: Sum| {
            lines.push(format!(
                "{name:<28} {:>12} {:>6.2} {:>14} {:>14} {:>6.2}",
                sum.count,
                percent(sum.count, total.count),
                sum.record,
                sum.images,
                percent(sum.record + sum.images, all)
            ));
        };
        let mut rows = self.rows();
        rows.sort_by_key(|(_, sum)| std::cmp::Reverse(sum.record + sum.images));
        for (name, sum) in rows {
            line(&name, sum);
        }
        line("all", total);
        lines
    }

    pub(super) fn write_json(&self, out: &mut impl Write) -> io::Result<()> {
        let rows: Vec<_> = self
            .rows()
            .into_iter()
            .map(|(name, sum)| {
                json!({
                    "type": name,
                    "count": sum.count,
                    "record_bytes": sum.record,
                    "image_bytes": sum.images,
                })
            })
            .collect();
        let document = json!({
            "from": self.first.map(|lsn| lsn.to_string()),
            "to": self.first.map(|_| self.end.to_string()),
            "types": rows,
        });
        writeln!(out, "{document}")
    }
}

fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        0.0
    } else {
        100.0 * part as f64 / whole as f64
    }
}
