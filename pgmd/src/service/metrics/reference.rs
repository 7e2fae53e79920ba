//! The reference of all families, `docs/metrics.md`, written from the table.
//!
//! `PGM_WRITE_DOCS=1 cargo nextest run -p pgmd metrics::reference` writes the file anew.

use std::fmt::Write as _;
use std::path::Path;

use super::{SUBJECTS, family_count};

const HEAD: &str = "\
# Metrics

`pgmd` serves them over HTTP when the setting `metrics.port` is set (see the [manual](manual.md)): `/metrics` for Prometheus
(text format 0.0.4, or OpenMetrics 1.0 for those who ask for it), `/` as a page for people; every other path is 403.
A scrape costs no query, no connection and no look into the repository: everything comes out of memory.

Units are seconds, bytes, and ratios from 0 to 1. Counters end in `_total` and begin at 0 when `pgmd` starts; a worker that is
started again goes on counting. Truth is 1, falsehood 0. Moments are timestamps. What is not known is absent, not 0 or -1.
Histograms have buckets from half a millisecond to ten seconds. `repo` names each repository in
`pgm_repo_archiving_up`, `pgm_repo_backlog_files` and `pgm_repo_backlog_seconds`; all other families are of the one named `default`. `type` is `full` for incremental backups as well: they restore like one.

Worth an alert:

```promql
pgm_rpo_seconds{stage=\"flushed\"} > 60              # commits are not safe here
pgm_server_up == 0 or pgm_server_problem == 1      # the overview says what to do
pgm_wal_gaps > 0                                   # no restore can cross the hole: take a backup
time() - pgm_backup_last_success_timestamp_seconds > 86400
absent(pgm_backup_last_success_timestamp_seconds)  # never
pgm_backups{status=\"damaged\"} > 0                # pgm-cli info says what is wrong
time() - pgm_recovery_proven_timestamp_seconds > 30 * 86400
pgm_repo_free_bytes / pgm_repo_total_bytes < 0.1 or pgm_spool_free_bytes < 5e9
rate(pgm_wal_store_errors_total[5m]) > 0 or pgm_repo_up == 0
pgm_repo_backlog_seconds > 900                     # WAL does not get into the repository
pgm_config_last_reload_success == 0
```

This page is generated from the table in `pgmd/src/service/metrics`.
";

fn reference() -> String {
    let mut text = HEAD.to_owned();
    for subject in &SUBJECTS {
        let _ = write!(
            text,
            "\n## {}\n\n| metric | type | labels | meaning |\n|---|---|---|---|\n",
            subject.title
        );
        for family in subject.families {
            let labels: Vec<_> = family.labels.iter().map(|of| format!("`{of}`")).collect();
            let _ = writeln!(
                text,
                "| `{}` | {} | {} | {} |",
                family.name,
                family.kind.name(),
                labels.join(", "),
                family.help.replace('|', "\\|")
            );
        }
    }
    text
}

#[test]
fn the_reference_is_what_the_table_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/metrics.md");
    if std::env::var_os("PGM_WRITE_DOCS").is_some() {
        std::fs::write(&path, reference()).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == reference(),
        "docs/metrics.md is stale\nHINT: PGM_WRITE_DOCS=1 cargo nextest run -p pgmd metrics::reference"
    );
    assert!(family_count() > 50);
}
