//! The recovery windows of a server as a picture: time runs from left to right, up to now.
//!
//! ```text
//!     o        o           o     backups
//!     ==================    ===  any moment of this can be restored
//!   ====================  =====  WAL: in the repository, then only in the spool; red where it is missing
//!   02-28    03-01    03-02      UTC
//! ```
//!
//! Places are percentages, so that the picture fits every width without distorting its text.

use std::fmt::Write as _;

use jiff::{SignedDuration, Timestamp};

use super::html::Escaped;
use super::words;
use crate::service::facts::{Backup, ServerFacts, Soundness};

/// What a narrow thing is widened to, so that it can be seen: per cent.
const WIDTH_MIN: f64 = 0.25;
/// Steps between two labels of the axis: minutes.
const STEPS: [i64; 19] = [
    1, 2, 5, 10, 15, 30, 60, 120, 180, 360, 720, 1440, 2880, 10_080, 20_160, 43_200, 86_400,
    129_600, 525_600,
];
/// Labels at most.
const LABELS_MAX: i64 = 7;

/// The picture, or `None` when there is nothing to show.
pub(super) fn picture(now: Timestamp, server: &ServerFacts) -> Option<String> {
    let catalog = server.catalog.as_ref()?;
    let starts = [
        server.backups().iter().map(|backup| backup.started).min(),
        catalog.timeline.begin(),
    ];
    let from = starts.into_iter().flatten().min()?;
    let axis = Axis::new(from, now);
    let mut svg = String::new();
    let label = format!("recovery windows of {}", server.name);
    let _ = write!(
        svg,
        r#"<svg class="picture" role="img" aria-label="{}">"#,
        Escaped(label)
    );
    axis.draw(&mut svg);
    for (y, height) in [(32, 14), (50, 9)] {
        let _ = write!(
            svg,
            r#"<rect class="track" x="0" y="{y}" width="100%" height="{height}" rx="3"/>"#
        );
    }
    for window in &server.windows {
        let title = format!(
            "any moment from {} to {} can be restored",
            words::minute(window.from),
            words::minute(window.to)
        );
        axis.bar(
            &mut svg,
            "window",
            (window.from, window.to),
            (32, 14),
            &title,
        );
    }
    wal(&mut svg, &axis, server);
    for backup in server.backups() {
        pin(&mut svg, &axis, backup);
    }
    svg.push_str("</svg>");
    Some(svg)
}

fn wal(svg: &mut String, axis: &Axis, server: &ServerFacts) {
    const ROW: (u32, u32) = (50, 9);
    let Some(catalog) = &server.catalog else {
        return;
    };
    let time = |lsn| catalog.timeline.time_of(lsn);
    for interval in &catalog.wal {
        if let (Some(from), Some(to)) = (time(interval.start), time(interval.end)) {
            let title = format!(
                "wal of timeline {} from {} to {} is in the repository",
                interval.timeline, interval.start, interval.end
            );
            axis.bar(svg, "wal", (from, to), ROW, &title);
        }
    }
    let stored = server.archived.and_then(time);
    let live = server.windows.iter().map(|window| window.to).max();
    let durable = live.or(server.last_message).unwrap_or(axis.to);
    if let Some(stored) =
        stored.filter(|stored| *stored < durable && server.durable > server.archived)
    {
        let title = "wal that is durable here, not yet in the repository";
        axis.bar(svg, "spool", (stored, durable), ROW, title);
    }
    for gap in &server.gaps {
        if let (Some(from), Some(to)) = (time(gap.from), time(gap.to)) {
            let title = format!(
                "wal of timeline {} from {} to {} is missing",
                gap.timeline, gap.from, gap.to
            );
            axis.bar(svg, "gap", (from, to), ROW, &title);
        }
    }
}

fn pin(svg: &mut String, axis: &Axis, backup: &Backup) {
    let (class, state) = match backup.soundness {
        Soundness::Valid => ("dot", ""),
        Soundness::Warnings => ("dot warn", ", with warnings"),
        Soundness::Damaged => ("dot bad", ", damaged"),
    };
    let x = axis.place(backup.stopped);
    let title = format!(
        "backup {}{state}: {} in {}",
        backup.label,
        words::bytes(backup.raw_bytes),
        words::bytes(backup.stored_bytes)
    );
    let _ = write!(
        svg,
        r#"<g><title>{}</title><line class="pin" x1="{x:.2}%" x2="{x:.2}%" y1="14" y2="59"/><circle class="{class}" cx="{x:.2}%" cy="13" r="6.5"/></g>"#,
        Escaped(title)
    );
}

/// Time as places from 1 to 99 per cent.
struct Axis {
    from: Timestamp,
    to: Timestamp,
}

impl Axis {
    fn new(from: Timestamp, to: Timestamp) -> Self {
        let least = to - SignedDuration::from_mins(2);
        Self {
            from: from.min(least),
            to,
        }
    }

    fn place(&self, at: Timestamp) -> f64 {
        let whole = self.to.duration_since(self.from).as_secs_f64();
        let part = at.duration_since(self.from).as_secs_f64();
        1.0 + 98.0 * (part / whole).clamp(0.0, 1.0)
    }

    fn bar(
        &self,
        svg: &mut String,
        class: &str,
        (from, to): (Timestamp, Timestamp),
        (y, height): (u32, u32),
        title: &str,
    ) {
        let (x, end) = (self.place(from), self.place(to));
        let width = (end - x).max(WIDTH_MIN);
        let _ = write!(
            svg,
            r#"<rect class="{class}" x="{x:.2}%" y="{y}" width="{width:.2}%" height="{height}" rx="3"><title>{}</title></rect>"#,
            Escaped(title)
        );
    }

    /// Lines and labels at round times, few enough to be read; every other one may be left out on a phone.
    fn draw(&self, svg: &mut String) {
        let minutes = self.to.duration_since(self.from).as_secs() / 60;
        let step = STEPS
            .into_iter()
            .find(|step| minutes / step <= LABELS_MAX)
            .unwrap_or(minutes.max(1));
        let days = step >= 1440;
        let first = (self.from.as_second() / 60).div_euclid(step) + 1;
        let places = (first..).map(|number| number * step * 60);
        let end = self.to.as_second();
        for (number, second) in places.take_while(|second| *second <= end).enumerate() {
            let Ok(at) = Timestamp::from_second(second) else {
                return;
            };
            let x = self.place(at);
            let odd = if number % 2 == 1 {
                r#" class="odd""#
            } else {
                ""
            };
            let _ = write!(
                svg,
                r#"<line class="grid" x1="{x:.2}%" x2="{x:.2}%" y1="24" y2="66"/>"#
            );
            // A label at an edge would be cut off.
            if !(4.0..95.0).contains(&x) {
                continue;
            }
            let midnight = second % 86_400 == 0;
            let form = if days || midnight { "%m-%d" } else { "%H:%M" };
            let label = at.strftime(form);
            let _ = write!(
                svg,
                r#"<text{odd} x="{x:.2}%" y="80" text-anchor="middle">{label}</text>"#
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::facts::sample;

    fn count(of: &str, text: &str) -> usize {
        text.matches(of).count()
    }

    #[test]
    fn everything_has_its_place() {
        let facts = sample::facts();
        let [well, broken, unknown] = &facts.servers[..] else {
            panic!()
        };
        let drawn = picture(facts.now, well).unwrap();
        assert_eq!(count("<circle", &drawn), 4);
        assert_eq!(count(r#"class="dot warn""#, &drawn), 1);
        assert_eq!(count(r#"class="window""#, &drawn), 1);
        assert_eq!(count(r#"class="gap""#, &drawn), 0);
        let drawn = picture(facts.now, broken).unwrap();
        assert_eq!(count(r#"class="window""#, &drawn), 2);
        assert_eq!(count(r#"class="gap""#, &drawn), 1);
        assert_eq!(count(r#"class="dot bad""#, &drawn), 1);
        assert_eq!(picture(facts.now, unknown), None);
    }

    #[test]
    fn any_range_has_a_few_labels() {
        let now = sample::noon();
        for minutes in [0, 7, 90, 1000, 10_000, 500_000, 5_000_000] {
            let axis = Axis::new(now - SignedDuration::from_mins(minutes), now);
            let mut svg = String::new();
            axis.draw(&mut svg);
            let lines = count("<line", &svg);
            assert!((1..=9).contains(&lines), "{minutes}: {lines}");
        }
    }
}
