//! The overview page: what a person wants to know at a glance, and what to do when something is wrong.
//!
//! One document without anything from elsewhere: no script, no font, no image. It renews itself, is light or dark as the
//! reader's system is, and fits a phone. Everything that did not stand in this program is escaped.

mod alert;
mod html;
mod picture;
mod server;
mod words;

use std::fmt::Write as _;

use pgm_mgmt::JobProgress;
use pgm_storage::Space;

use super::facts::Facts;
use alert::{Alert, Urgency};
use html::Escaped;

/// How often the page renews itself: seconds.
const RENEW_SECONDS: u32 = 10;
const STYLE: &str = include_str!("style.css");

/// The page.
pub(super) fn page(facts: &Facts) -> String {
    let alerts = alert::alerts(facts);
    let mut page = String::with_capacity(32 << 10);
    let (class, verdict) = verdict(facts, &alerts);
    let _ = write!(
        page,
        r#"<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>{verdict} – pgm</title><meta name="viewport" content="width=device-width,initial-scale=1"><meta http-equiv="refresh" content="{RENEW_SECONDS}"><meta name="robots" content="noindex"><link rel="icon" href="data:,"><style>{STYLE}</style></head><body><header><h1 class="{class}"><span class="mark"></span>{verdict}</h1><p>{} UTC, renewed every {RENEW_SECONDS} seconds</p></header><main>"#,
        facts.now.strftime("%Y-%m-%d %H:%M:%S")
    );
    tell(&mut page, &alerts);
    jobs(&mut page, &facts.jobs);
    page.push_str("<h2>Servers</h2>");
    if facts.servers.is_empty() {
        page.push_str(
            r#"<section class="card"><p class="empty">No server is configured: add one to <code>servers</code> in the configuration and reload it.</p></section>"#,
        );
    } else {
        page.push_str(LEGEND);
    }
    for of in &facts.servers {
        server::card(&mut page, facts, of);
    }
    room(&mut page, facts);
    let _ = write!(
        page,
        r#"</main><footer><span>pgmd {}, up {}</span><a href="metrics">Metrics for Prometheus</a></footer></body></html>"#,
        env!("CARGO_PKG_VERSION"),
        words::duration(words::since(facts.now, facts.started))
    );
    page
}

const LEGEND: &str = r#"<ul class="legend"><li><svg class="wide"><circle class="dot" cx="8" cy="5" r="6"/></svg>backup</li><li><svg><rect class="window" width="16" height="10" rx="3"/></svg>any moment can be restored</li><li><svg><rect class="wal" width="16" height="10" rx="3"/></svg>WAL in the repository</li><li><svg><rect class="spool" width="16" height="10" rx="3"/></svg>WAL durable here</li><li><svg><rect class="gap" width="16" height="10" rx="3"/></svg>WAL missing</li><li>times in UTC</li></ul>"#;

/// The page in one line.
fn verdict(facts: &Facts, alerts: &[Alert]) -> (&'static str, String) {
    let all = facts.servers.len();
    let mut troubled: Vec<&str> = alerts
        .iter()
        .filter(|alert| alert.urgency == Urgency::Bad)
        .filter_map(|alert| alert.server.as_deref())
        .collect();
    troubled.dedup();
    let class = alerts.first().map_or("ok", |alert| alert.urgency.class());
    let verdict = match (all, troubled.len(), alerts.len()) {
        (0, _, 0) => "No server is configured".to_owned(),
        (1, _, 0) => "The server is safe".to_owned(),
        (all, _, 0) => format!("All {all} servers are safe"),
        (all, 1.., _) => {
            let needs = if troubled.len() == 1 { "needs" } else { "need" };
            format!(
                "{} of {} {needs} attention",
                troubled.len(),
                words::count(all, "server")
            )
        }
        (_, _, things) => format!("{} to look at", words::count(things, "thing")),
    };
    (class, verdict)
}

fn tell(page: &mut String, alerts: &[Alert]) {
    if alerts.is_empty() {
        return;
    }
    page.push_str("<h2>What to do</h2>");
    for alert in alerts {
        let _ = write!(
            page,
            r#"<section class="card alert {}"><p>"#,
            alert.urgency.class()
        );
        if let Some(server) = &alert.server {
            let _ = write!(page, "<b>{}</b>: ", Escaped(server));
        }
        let _ = write!(page, "{}", Escaped(&alert.text));
        if let Some(since) = &alert.since {
            let _ = write!(page, r#" <span class="when">{}</span>"#, Escaped(since));
        }
        page.push_str("</p>");
        if let Some(hint) = &alert.hint {
            let _ = write!(page, r#"<p class="do">{}</p>"#, Escaped(hint));
        }
        page.push_str("</section>");
    }
}

fn jobs(page: &mut String, jobs: &[JobProgress]) {
    if jobs.is_empty() {
        return;
    }
    page.push_str(r#"<h2>Jobs</h2><section class="card">"#);
    for job in jobs {
        let _ = write!(
            page,
            r#"<div class="job"><p><span><b>{} of {}</b> <small>job {}, for {}</small></span><span class="far">{}</span></p>"#,
            Escaped(&job.kind),
            Escaped(&job.server),
            job.job,
            words::duration(std::time::Duration::from_secs(job.elapsed_seconds)),
            Escaped(how_far(job))
        );
        match job.total_bytes {
            Some(total) => {
                let done = job.done_bytes.min(total);
                let _ = write!(
                    page,
                    r#"<progress max="{total}" value="{done}"></progress>"#
                );
            }
            None => page.push_str("<progress></progress>"),
        }
        let _ = write!(page, "<small>{}</small></div>", Escaped(&job.phase));
    }
    page.push_str("</section>");
}

fn how_far(job: &JobProgress) -> String {
    let mut text = match job.total_bytes {
        Some(total) => {
            let percent = u128::from(job.done_bytes) * 100 / u128::from(total.max(1));
            format!("{} % of {}", percent.min(100), words::bytes(total))
        }
        None if job.done_bytes > 0 => words::bytes(job.done_bytes),
        None => String::new(),
    };
    if job.rate_bytes > 0 {
        let _ = write!(text, ", {}/s", words::bytes(job.rate_bytes));
    }
    if let Some(left) = job.eta_seconds {
        let left = words::duration(std::time::Duration::from_secs(left));
        let _ = write!(text, ", {left} left");
    }
    text
}

fn room(page: &mut String, facts: &Facts) {
    page.push_str(r#"<h2>Room</h2><section class="card"><dl>"#);
    let repository = format!("Repository, {}", facts.repository.path);
    for (name, space) in [
        (repository.as_str(), facts.repository.space),
        ("Spool", facts.repository.spool_space),
    ] {
        let Some(Space { free, total }) = space else {
            continue;
        };
        let used = total.saturating_sub(free);
        let full = if free.saturating_mul(10) < total {
            "full"
        } else {
            ""
        };
        let _ = write!(
            page,
            r#"<div><dt>{}</dt><dd>{} free of {}<progress class="{full}" max="{}" value="{used}"></progress></dd></div>"#,
            Escaped(name),
            words::bytes(free),
            words::bytes(total),
            total.max(1)
        );
    }
    page.push_str("</dl></section>");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::facts::sample;

    #[test]
    fn the_page_says_what_is_wrong_first_and_escapes_it() {
        let facts = sample::facts();
        let page = page(&facts);
        assert!(page.contains("1 of 3 servers needs attention"));
        assert!(page.contains("refused &lt;&amp; &quot;quoted&quot;&gt;"));
        assert!(!page.contains("<& \"quoted\">"));
        let (trouble, servers) = (page.find("What to do"), page.find("<h2>Servers"));
        assert!(trouble.unwrap() < servers.unwrap());
    }

    #[test]
    fn the_page_loads_nothing_and_runs_nothing() {
        let page = page(&sample::facts());
        for foreign in [
            "http://", "https://", "<script", "src=", "url(", "@import", "onload",
        ] {
            assert!(!page.contains(foreign), "{foreign}");
        }
    }

    #[test]
    fn tags_are_closed_in_order() {
        let page = page(&sample::facts());
        let mut open: Vec<&str> = Vec::new();
        for tag in page.split('<').skip(1) {
            let name = tag.split(['>', ' ', '/']).next().unwrap_or_default();
            let inner = tag.split('>').next().unwrap_or_default();
            match tag.strip_prefix('/') {
                Some(closing) => {
                    let closing = closing.split('>').next();
                    assert_eq!(open.pop(), closing, "{tag}");
                }
                None if ["meta", "link", "!DOCTYPE"].contains(&name) || inner.ends_with('/') => {}
                None => open.push(name),
            }
        }
        assert_eq!(open, [""; 0]);
    }

    #[test]
    fn without_trouble_it_says_so() {
        let mut facts = sample::facts();
        facts.servers.truncate(1);
        assert!(page(&facts).contains("The server is safe"));
        facts.servers.clear();
        assert!(page(&facts).contains("No server is configured"));
    }
}
