//! The name of a backup: the UTC second at which it began.
//!
//! `20261122T023456Z` is fixed in width, so labels sort as text and as time alike. Two backups of a server never share
//! a label: [`BackupLabel::next_free`] moves on to the first second after every label that is taken, also when the
//! clock has jumped back, so a server's labels keep the order in which its backups were taken.

use std::fmt;
use std::str::FromStr;

use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

const FORMAT: &str = "%Y%m%dT%H%M%SZ";
const LENGTH: usize = 16;

/// A backup's name, such as `20261122T023456Z`: unique for its server, and sorted by time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BackupLabel(Timestamp);

/// The text is not a backup label.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a backup label such as 20261122T023456Z")]
pub struct ParseLabelError(String);

impl BackupLabel {
    /// The label of a backup that began at `time`; fractions of the second are dropped.
    pub fn from_time(time: Timestamp) -> Self {
        Self(Timestamp::from_second(time.as_second()).unwrap_or(time))
    }

    /// The label of a backup that begins at `time`, or the first later second after `newest`, the server's newest label.
    pub fn next_free(time: Timestamp, newest: Option<Self>) -> Self {
        let now = Self::from_time(time);
        match newest {
            Some(newest) if newest >= now => Self(
                newest
                    .0
                    .saturating_add(SignedDuration::from_secs(1))
                    .unwrap_or(newest.0),
            ),
            _ => now,
        }
    }

    /// The second that the label names.
    pub fn time(self) -> Timestamp {
        self.0
    }
}

impl fmt::Display for BackupLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0.to_zoned(TimeZone::UTC).strftime(FORMAT).to_string())
    }
}

impl FromStr for BackupLabel {
    type Err = ParseLabelError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = || ParseLabelError(text.chars().take(80).collect());
        if text.len() != LENGTH || !text.ends_with('Z') {
            return Err(refuse());
        }
        let civil = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%S", &text[..LENGTH - 1]);
        let zoned = civil
            .and_then(|civil| civil.to_zoned(TimeZone::UTC))
            .map_err(|_| refuse())?;
        let label = Self(zoned.timestamp());
        // Only the one spelling is a label: no leap second, no sign, no spaces.
        if label.to_string() == text {
            Ok(label)
        } else {
            Err(refuse())
        }
    }
}

impl Serialize for BackupLabel {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for BackupLabel {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn label(text: &str) -> BackupLabel {
        text.parse().unwrap()
    }

    #[test]
    fn label_prints_what_it_parses() {
        for text in ["20261122T023456Z", "19700101T000000Z", "20240229T235959Z"] {
            assert_eq!(label(text).to_string(), text);
        }
        let time: Timestamp = "2026-11-22T02:34:56.789Z".parse().unwrap();
        assert_eq!(BackupLabel::from_time(time), label("20261122T023456Z"));
    }

    #[test]
    fn what_is_not_a_label_is_refused() {
        let long = "2".repeat(100_000);
        for text in [
            "",
            "newest",
            "20261122T023456",
            "20261122t023456Z",
            "20261322T023456Z",
            "20260230T000000Z",
            "20261122T023460Z",
            "20261122T0234 6Z",
            "+0261122T023456Z",
            "../../../../etcZ",
            "2026112ä023456Z",
            &long,
        ] {
            assert!(text.parse::<BackupLabel>().is_err(), "{text}");
        }
    }

    #[test]
    fn labels_keep_their_order_when_the_clock_jumps_back() {
        let time: Timestamp = "2026-11-22T02:34:56Z".parse().unwrap();
        let taken = label("20261123T023459Z");
        assert_eq!(
            BackupLabel::next_free(time, None),
            label("20261122T023456Z")
        );
        assert_eq!(
            BackupLabel::next_free(time, Some(taken)),
            label("20261123T023500Z")
        );
        let same = label("20261122T023456Z");
        assert_eq!(
            BackupLabel::next_free(time, Some(same)),
            label("20261122T023457Z")
        );
    }

    #[test]
    fn labels_sort_as_text_and_as_time() {
        let (early, late) = (label("20261122T095959Z"), label("20261122T100000Z"));
        assert!(early < late && early.to_string() < late.to_string());
    }
}
