//! The rules that every family keeps, and the text of all of them.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::family::Kind;
use super::*;
use crate::service::facts::sample;

fn families() -> impl Iterator<Item = &'static Family> {
    SUBJECTS.iter().flat_map(|subject| subject.families)
}

fn text(format: Format, piece: usize) -> String {
    let mut pieces = Pieces::new(Arc::new(sample::facts()), format);
    std::iter::from_fn(|| pieces.next(piece)).collect()
}

#[test]
fn names_say_unit_and_type() {
    let mut seen = BTreeSet::new();
    for family in families() {
        let name = family.name;
        assert!(seen.insert(name), "{name} is declared twice");
        assert!(
            name.starts_with("pgm_") || name.starts_with("process_"),
            "{name}"
        );
        let plain = |c: char| c.is_ascii_lowercase() || c == '_';
        assert!(name.chars().all(plain), "{name}");
        assert_eq!(
            family.kind == Kind::Counter,
            name.ends_with("_total"),
            "{name}"
        );
        assert!(
            !["_count", "_sum", "_bucket"]
                .iter()
                .any(|of| name.ends_with(of)),
            "{name}"
        );
        if name.contains("timestamp") {
            assert!(name.ends_with("_timestamp_seconds"), "{name}");
        }
        for unit in [
            "_ms",
            "_milliseconds",
            "_kib",
            "_percent",
            "_age",
            "_minutes",
        ] {
            assert!(!name.contains(unit), "{name}");
        }
        assert!(
            family.help.ends_with('.') && !family.help.contains('\n'),
            "{name}"
        );
    }
}

#[test]
fn labels_are_of_the_bounded_kind() {
    let bounded = [
        "server",
        "slot",
        "stage",
        "state",
        "repo",
        "kind",
        "reason",
        "type",
        "status",
        "backup",
        "job",
        "result",
        "request",
        "version",
        "system_identifier",
        "cert",
        "level",
        "outcome",
        "standby",
    ];
    for label in families().flat_map(|family| family.labels) {
        assert!(
            bounded.contains(label),
            "{label}: is its number of values bounded?"
        );
    }
}

#[test]
fn no_series_appears_twice_and_every_value_is_a_number() {
    let text = text(Format::Prometheus, usize::MAX);
    let mut seen = BTreeSet::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (series, value) = line.rsplit_once(' ').unwrap();
        assert!(seen.insert(series), "{series}");
        let value: f64 = value.parse().unwrap();
        assert!(value >= 0.0, "{line}");
    }
    assert!(seen.len() > 150, "{}", seen.len());
}

#[test]
fn what_is_known_is_said_and_what_is_not_is_absent() {
    let text = text(Format::Prometheus, usize::MAX);
    for line in [
        r#"pgm_server_up{server="orders"} 1"#,
        r#"pgm_server_up{server="sales"} 0"#,
        r#"pgm_rpo_bytes{server="orders",stage="flushed"} 0"#,
        r#"pgm_rpo_bytes{server="orders",stage="stored"} 16777216"#,
        r#"pgm_rpo_seconds{server="sales",stage="flushed"} 754"#,
        r#"pgm_wal_gap_segments{server="sales",repo="default"} 10"#,
        r#"pgm_wal_fsync_seconds_bucket{server="orders",le="0.0025"} 2"#,
        r#"pgm_wal_fsync_seconds_bucket{server="orders",le="+Inf"} 5"#,
        r#"pgm_wal_fsync_seconds_sum{server="orders"} 0.946"#,
        r#"pgm_backups{server="sales",repo="default",status="damaged"} 1"#,
        r#"pgm_backup_failures_total{server="sales",type="full",reason="server_unreachable"} 1"#,
        r#"pgm_backup_compression_ratio{server="orders",backup="last"} 4"#,
        r#"pgm_job_progress_ratio{server="orders",job="backup"} 0.375"#,
        r#"pgm_job_running{server="sales",job="backup"} 0"#,
        r#"pgm_recovery_windows{server="sales"} 2"#,
        r#"pgm_management_requests_total{request="backup",result="already_running"} 1"#,
        "# TYPE pgm_wal_ack_seconds histogram",
        "pgm_backup_last_success_timestamp_seconds{server=\"orders\",type=\"full\"} 1772561340",
    ] {
        assert!(
            text.lines().any(|of| of == line),
            "{line} is not in:\n{text}"
        );
    }
    for absent in [
        r#"pgm_rpo_seconds{server="new""#,
        r#"pgm_backup_last_success_timestamp_seconds{server="new""#,
        "pgm_restore_last_duration_seconds",
    ] {
        assert!(!text.contains(absent), "{absent}");
    }
}

#[test]
fn openmetrics_names_counters_without_their_ending_and_says_where_it_ends() {
    let text = text(Format::OpenMetrics, usize::MAX);
    assert!(text.contains("# TYPE pgm_wal_received_bytes counter\n"));
    assert!(text.contains("\npgm_wal_received_bytes_total{server=\"orders\"} 123456789\n"));
    assert!(text.ends_with("\n# EOF\n"));
}

#[test]
fn pieces_of_any_size_make_the_same_text() {
    for format in [Format::Prometheus, Format::OpenMetrics] {
        let whole = text(format, usize::MAX);
        for piece in [1, 100, 5000] {
            assert_eq!(text(format, piece), whole);
        }
    }
}
