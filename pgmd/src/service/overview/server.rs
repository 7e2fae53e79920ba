//! One server: its picture and its figures.

use std::fmt::Write as _;
use std::time::Duration;

use pgm_mgmt::ServerState;

use super::html::Escaped;
use super::{picture, words};
use crate::service::facts::{Facts, Growth, ServerFacts};

/// Behind for longer than this is worth a colour.
const BEHIND: Duration = Duration::from_mins(1);

/// The card of `server`.
pub(super) fn card(page: &mut String, facts: &Facts, server: &ServerFacts) {
    let (class, state) = state(server);
    let _ = write!(
        page,
        r#"<section class="card"><div class="top"><h3>{}</h3><span class="pill {class}">{state}</span>"#,
        Escaped(&server.name)
    );
    if let Some((system_id, version)) = &server.identity {
        let timeline = server.timeline.map_or_else(String::new, |timeline| {
            format!(", timeline {}", timeline.number())
        });
        let _ = write!(
            page,
            r#"<span class="which" title="system identifier {system_id}">PostgreSQL {version}{timeline}</span>"#
        );
    }
    page.push_str("</div>");
    match picture::picture(facts.now, server) {
        Some(svg) => page.push_str(&svg),
        None => page.push_str(r#"<p class="empty">The repository has nothing of it yet.</p>"#),
    }
    page.push_str("<dl>");
    figure(page, "Would be lost now", &lost(server));
    figure(page, "Not yet in the repository", &not_stored(server));
    figure(page, "Can be restored", &restorable(facts, server));
    figure(page, "Newest backup", &newest(facts, server));
    figure(page, "Proven recoverable", &proven(facts, server));
    figure(page, "In the repository", &stored(server));
    figure(page, "WAL", &wal(server));
    page.push_str("</dl></section>");
}

fn state(server: &ServerFacts) -> (&'static str, &'static str) {
    match server.state {
        ServerState::Streaming => ("ok", "streaming"),
        ServerState::Error => ("bad", "needs attention"),
        ServerState::Stopped => ("bad", "stopped"),
        ServerState::Backoff => ("bad", "not connected"),
        other => ("warn", other.name()),
    }
}

/// A value, what stands below it, and its colour.
struct Figure {
    value: String,
    below: String,
    class: &'static str,
}

impl Figure {
    fn new(value: impl Into<String>, below: impl Into<String>) -> Self {
        Self {
            value: value.into(),
            below: below.into(),
            class: "",
        }
    }

    fn colour(self, class: &'static str) -> Self {
        Self { class, ..self }
    }

    fn unknown() -> Self {
        Self::new("not known yet", "")
    }
}

fn figure(page: &mut String, name: &str, figure: &Figure) {
    let _ = write!(
        page,
        r#"<div><dt>{name}</dt><dd class="{}">{}"#,
        figure.class,
        Escaped(&figure.value)
    );
    if !figure.below.is_empty() {
        let _ = write!(page, "<small>{}</small>", Escaped(&figure.below));
    }
    page.push_str("</dd></div>");
}

fn lost(server: &ServerFacts) -> Figure {
    let bytes = server.behind(server.durable).unwrap_or(0);
    match server.flushed_rpo {
        None => Figure::unknown(),
        Some(Duration::ZERO) => Figure::new("nothing", "everything it wrote is durable here"),
        Some(rpo) => {
            let known = match bytes {
                0 => "it may have written more".to_owned(),
                bytes => format!("at least {}", words::bytes(bytes)),
            };
            let figure = Figure::new(words::duration(rpo), known);
            figure.colour(if rpo > BEHIND { "bad" } else { "" })
        }
    }
}

fn not_stored(server: &ServerFacts) -> Figure {
    match (server.stored_rpo, server.behind(server.archived)) {
        (Some(Duration::ZERO), _) => Figure::new("nothing", ""),
        (Some(rpo), Some(bytes)) => Figure::new(words::duration(rpo), words::bytes(bytes)),
        _ => Figure::unknown(),
    }
}

fn restorable(facts: &Facts, server: &ServerFacts) -> Figure {
    let Some(window) = server.windows.iter().max_by_key(|window| window.to) else {
        let class = if server.identity.is_some() {
            "warn"
        } else {
            ""
        };
        return Figure::new("nothing yet", "").colour(class);
    };
    let until = match window.growth {
        Growth::Live if words::since(facts.now, window.to) < BEHIND => "until now".to_owned(),
        _ => format!("until {}", words::minute(window.to)),
    };
    let more = match server.windows.len() {
        1 => until,
        several => format!("{until}; {}", words::count(several - 1, "older window")),
    };
    Figure::new(format!("from {}", words::minute(window.from)), more)
}

fn newest(facts: &Facts, server: &ServerFacts) -> Figure {
    match (server.newest_backup(), &server.catalog) {
        (Some(backup), _) => {
            let size = format!(
                "{}, stored in {}",
                words::bytes(backup.raw_bytes),
                words::bytes(backup.stored_bytes)
            );
            Figure::new(words::ago(facts.now, backup.stopped), size)
        }
        (None, Some(_)) => Figure::new("none", "").colour("warn"),
        (None, None) => Figure::unknown(),
    }
}

/// What a server showed that was started on a restored backup.
fn proven(facts: &Facts, server: &ServerFacts) -> Figure {
    match server.proven() {
        Some((_, trial)) => {
            let took = Duration::from_millis(trial.restore_ms + trial.replay_ms);
            let below = format!(
                "until {}; recovery took {}",
                words::minute(trial.proven),
                words::duration(took)
            );
            Figure::new(words::ago(facts.now, trial.proven), below)
        }
        None => Figure::new("never tried", "pgm-cli verify --level restore"),
    }
}

fn stored(server: &ServerFacts) -> Figure {
    let Some(catalog) = &server.catalog else {
        return Figure::unknown();
    };
    let bytes: u64 = catalog.backups.iter().map(|of| of.stored_bytes).sum();
    let value = words::bytes(bytes + catalog.wal_bytes);
    let below = format!(
        "{}, {} of WAL",
        words::count(catalog.backups.len(), "backup"),
        words::bytes(catalog.wal_bytes)
    );
    Figure::new(value, below)
}

fn wal(server: &ServerFacts) -> Figure {
    match server.durable {
        None => Figure::unknown(),
        Some(durable) => {
            let below = format!(
                "durable here; {} in the spool",
                words::bytes(server.spool_bytes)
            );
            Figure::new(durable.to_string(), below)
        }
    }
}
