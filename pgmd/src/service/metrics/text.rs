//! Metrics as text: Prometheus' format 0.0.4, and OpenMetrics 1.0 for those who ask for it.
//!
//! Writing goes family by family into a buffer, so that a large answer is never in memory as a whole.

use std::fmt::Write as _;

use super::family::{Family, Kind, Samples, Value};
use crate::service::facts::Facts;
use crate::shared_state::{BOUNDS, Observations};

/// Which text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::service) enum Format {
    /// Prometheus' own, version 0.0.4.
    Prometheus,
    /// OpenMetrics 1.0.0.
    OpenMetrics,
}

impl Format {
    /// The format that an `Accept` header prefers; Prometheus' own unless OpenMetrics 1.0 is named with no less weight.
    pub(in crate::service) fn accepted(header: &str) -> Self {
        let (mut open, mut plain) = (None, 0.0_f32);
        for media in header.split(',') {
            let mut parts = media.split(';').map(str::trim);
            let kind = parts.next().unwrap_or_default();
            let (mut weight, mut version) = (1.0_f32, None);
            for part in parts {
                match part.split_once('=') {
                    Some(("q", value)) => weight = value.trim().parse().unwrap_or(0.0),
                    Some(("version", value)) => version = Some(value.trim().trim_matches('"')),
                    _ => {}
                }
            }
            match kind {
                "application/openmetrics-text" if matches!(version, None | Some("1.0.0")) => {
                    open = Some(weight.max(open.unwrap_or(0.0)));
                }
                "text/plain" => plain = plain.max(weight),
                _ => {}
            }
        }
        match open {
            Some(weight) if weight > 0.0 && weight >= plain => Self::OpenMetrics,
            _ => Self::Prometheus,
        }
    }

    /// The value of the header `Content-Type`.
    pub(in crate::service) const fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    /// Writes a family, unless it has no samples now.
    pub(in crate::service) fn write(self, family: &Family, facts: &Facts, text: &mut String) {
        let begin = text.len();
        // OpenMetrics names a counter without the ending that its samples have.
        let name = match (self, family.kind) {
            (Self::OpenMetrics, Kind::Counter) => {
                family.name.strip_suffix("_total").unwrap_or(family.name)
            }
            _ => family.name,
        };
        let _ = write!(text, "# HELP {name} ");
        escape_help(family.help, text);
        let _ = write!(text, "\n# TYPE {name} {}\n", family.kind.name());
        let header = text.len();
        let mut lines = Lines { family, text };
        (family.samples)(facts, &mut lines);
        if text.len() == header {
            text.truncate(begin);
        }
    }

    /// What stands behind the last family.
    pub(in crate::service) const fn end(self) -> &'static str {
        match self {
            Self::Prometheus => "",
            Self::OpenMetrics => "# EOF\n",
        }
    }
}

struct Lines<'a> {
    family: &'a Family,
    text: &'a mut String,
}

impl Lines<'_> {
    fn line(&mut self, ending: &str, labels: &[&str], bound: Option<&str>, value: Value) {
        self.text.push_str(self.family.name);
        self.text.push_str(ending);
        let names = self.family.labels.iter().copied().chain(["le"]);
        let values = labels.iter().copied().chain(bound);
        let mut separator = '{';
        for (name, value) in names.zip(values) {
            self.text.push(separator);
            self.text.push_str(name);
            self.text.push_str("=\"");
            escape_label(value, self.text);
            self.text.push('"');
            separator = ',';
        }
        if separator == ',' {
            self.text.push('}');
        }
        let _ = match value {
            Value::Whole(value) => writeln!(self.text, " {value}"),
            Value::Real(value) => writeln!(self.text, " {value}"),
        };
    }
}

impl Samples for Lines<'_> {
    fn add(&mut self, labels: &[&str], value: Value) {
        assert_eq!(
            labels.len(),
            self.family.labels.len(),
            "{}",
            self.family.name
        );
        self.line("", labels, None, value);
    }

    fn histogram(&mut self, labels: &[&str], observations: &Observations) {
        assert_eq!(
            labels.len(),
            self.family.labels.len(),
            "{}",
            self.family.name
        );
        for (bound, count) in BOUNDS.iter().zip(observations.cumulative) {
            let bound = bound.as_secs_f64().to_string();
            self.line("_bucket", labels, Some(&bound), count.into());
        }
        self.line("_bucket", labels, Some("+Inf"), observations.count.into());
        self.line("_sum", labels, None, observations.sum.into());
        self.line("_count", labels, None, observations.count.into());
    }
}

fn escape_label(value: &str, text: &mut String) {
    for letter in value.chars() {
        match letter {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            letter => text.push(letter),
        }
    }
}

fn escape_help(help: &str, text: &mut String) {
    for letter in help.chars() {
        match letter {
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            letter => text.push(letter),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What a reader of the format makes of an escaped label.
    fn unescaped(text: &str) -> String {
        let mut letters = text.chars();
        let mut plain = String::new();
        while let Some(letter) = letters.next() {
            plain.push(match letter {
                '\\' => match letters.next() {
                    Some('n') => '\n',
                    Some(other) => other,
                    None => panic!("{text}"),
                },
                letter => letter,
            });
        }
        plain
    }

    proptest! {
        #[test]
        fn any_label_is_read_back_as_it_was(value: String) {
            let mut text = String::new();
            escape_label(&value, &mut text);
            prop_assert!(!text.contains('\n'));
            prop_assert!(!text.replace("\\\\", "").replace("\\\"", "").contains('"'));
            prop_assert_eq!(unescaped(&text), value);
        }

        #[test]
        fn any_header_is_understood_somehow(header: String) {
            Format::accepted(&header);
        }
    }

    #[test]
    fn labels_are_escaped_as_the_format_says() {
        let mut text = String::new();
        escape_label("C:\\DIR\\\n\"x\"", &mut text);
        assert_eq!(text, r#"C:\\DIR\\\n\"x\""#);
    }

    #[test]
    fn who_asks_for_openmetrics_gets_it() {
        let prometheus = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        assert_eq!(Format::accepted(prometheus), Format::OpenMetrics);
        for header in [
            "",
            "*/*",
            "text/html",
            "text/plain",
            "application/openmetrics-text;version=2.0.0",
            "application/openmetrics-text; q=0.2, text/plain; q=0.5",
            "application/openmetrics-text; q=nonsense",
        ] {
            assert_eq!(Format::accepted(header), Format::Prometheus, "{header}");
        }
    }
}
