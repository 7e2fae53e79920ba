//! What a user wants to keep: the rules, and their text.
//!
//! ```text
//! last 3, window 14d, days 7, weeks 4, months 12, years 3
//! ```
//!
//! Every rule keeps something, and a backup goes only when no rule keeps it. Without any rule everything is kept, which
//! is also written `everything`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Which backups and which WAL are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct RetentionPolicy {
    /// The newest so many backups.
    pub last: u32,
    /// Seconds back from the newest thing known to any moment of which a restore must be possible.
    pub window_seconds: u64,
    /// The first backup of each of the newest so many days (UTC) that have one.
    pub days: u32,
    /// The same for weeks, which begin on Monday (ISO 8601).
    pub weeks: u32,
    /// The same for months.
    pub months: u32,
    /// The same for years.
    pub years: u32,
}

/// The text is no retention policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParsePolicyError {
    /// A rule has no known name.
    #[error("`{0}` is no rule of retention: they are last, window, days, weeks, months, years")]
    UnknownRule(String),
    /// A rule has no number, or one that is out of bounds.
    #[error("`{rule}` is not like `days 7`, with a number from 0 to {RULE_MAX}")]
    Number {
        /// The rule as it was written.
        rule: String,
    },
    /// The window is no length of time.
    #[error("`{rule}` is not like `window 14d`: a number and s, min, h, d or w")]
    Window {
        /// The rule as it was written.
        rule: String,
    },
    /// A rule is there twice.
    #[error("the rule `{0}` is there twice")]
    Twice(String),
}

/// The policy without a rule, in a word.
const EVERYTHING: &str = "everything";
/// The largest count in a rule.
pub const RULE_MAX: u32 = 100_000;
/// A century: a longer window keeps everything anyway.
const WINDOW_SECONDS_MAX: u64 = 100 * 366 * 86_400;
/// Units of a window, longest first.
const UNITS: [(&str, u64); 5] = [
    ("w", 7 * 86_400),
    ("d", 86_400),
    ("h", 3600),
    ("min", 60),
    ("s", 1),
];

impl RetentionPolicy {
    /// The policy without a rule: everything is kept.
    pub const EVERYTHING: Self = Self {
        last: 0,
        window_seconds: 0,
        days: 0,
        weeks: 0,
        months: 0,
        years: 0,
    };

    /// Whether no rule is given, so that nothing ever goes.
    pub fn keeps_everything(&self) -> bool {
        *self == Self::EVERYTHING
    }

    fn count(&mut self, name: &str) -> Option<&mut u32> {
        match name {
            "last" => Some(&mut self.last),
            "days" => Some(&mut self.days),
            "weeks" => Some(&mut self.weeks),
            "months" => Some(&mut self.months),
            "years" => Some(&mut self.years),
            _ => None,
        }
    }
}

impl FromStr for RetentionPolicy {
    type Err = ParsePolicyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut policy = Self::EVERYTHING;
        if text.trim() == EVERYTHING {
            return Ok(policy);
        }
        let mut seen: Vec<&str> = Vec::new();
        for rule in text
            .split(',')
            .map(str::trim)
            .filter(|rule| !rule.is_empty())
        {
            let (name, value) = rule.split_once(' ').unwrap_or((rule, ""));
            let value = value.trim();
            if seen.contains(&name) {
                return Err(ParsePolicyError::Twice(name.to_owned()));
            }
            if name == "window" {
                policy.window_seconds = window(value).ok_or_else(|| ParsePolicyError::Window {
                    rule: rule.to_owned(),
                })?;
            } else {
                let place = policy
                    .count(name)
                    .ok_or_else(|| ParsePolicyError::UnknownRule(name.to_owned()))?;
                let count = value.parse().ok().filter(|count| *count <= RULE_MAX);
                *place = count.ok_or_else(|| ParsePolicyError::Number {
                    rule: rule.to_owned(),
                })?;
            }
            seen.push(name);
        }
        Ok(policy)
    }
}

fn window(text: &str) -> Option<u64> {
    let digits = text.find(|letter: char| !letter.is_ascii_digit())?;
    let count: u64 = text[..digits].parse().ok()?;
    let unit = text[digits..].trim();
    let (_, seconds) = UNITS.iter().find(|(name, _)| *name == unit)?;
    count
        .checked_mul(*seconds)
        .filter(|seconds| *seconds <= WINDOW_SECONDS_MAX)
}

impl fmt::Display for RetentionPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.keeps_everything() {
            return f.pad(EVERYTHING);
        }
        let mut rules = Vec::new();
        if self.last > 0 {
            rules.push(format!("last {}", self.last));
        }
        if self.window_seconds > 0 {
            let unit = UNITS
                .iter()
                .find(|(_, seconds)| self.window_seconds.is_multiple_of(*seconds));
            let (name, seconds) = unit.unwrap_or(&("s", 1));
            rules.push(format!("window {}{name}", self.window_seconds / seconds));
        }
        for (name, count) in [
            ("days", self.days),
            ("weeks", self.weeks),
            ("months", self.months),
            ("years", self.years),
        ] {
            if count > 0 {
                rules.push(format!("{name} {count}"));
            }
        }
        f.pad(&rules.join(", "))
    }
}

impl Serialize for RetentionPolicy {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for RetentionPolicy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rules_are_read_as_they_are_written() {
        let text = "last 3, window 14d, days 7, weeks 4, months 12, years 3";
        let policy: RetentionPolicy = text.parse().unwrap();
        assert_eq!(policy.window_seconds, 14 * 86_400);
        assert_eq!((policy.last, policy.years), (3, 3));
        assert_eq!(
            policy.to_string(),
            "last 3, window 2w, days 7, weeks 4, months 12, years 3"
        );
        let nothing: RetentionPolicy = " ".parse().unwrap();
        assert!(nothing.keeps_everything());
        assert_eq!(nothing.to_string(), "everything");
    }

    #[test]
    fn what_is_no_rule_says_how_one_looks() {
        for (text, expected) in [
            ("day 7", "`day` is no rule"),
            ("days", "`days` is not like `days 7`"),
            ("days -1", "`days -1` is not like"),
            ("days 100001", "from 0 to 100000"),
            ("window 14", "not like `window 14d`"),
            ("window 9999999999w", "not like `window 14d`"),
            ("days 1, days 2", "`days` is there twice"),
        ] {
            let error = text.parse::<RetentionPolicy>().unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn every_policy_is_read_back_from_its_text(
            last in 0..=RULE_MAX,
            window_seconds in 0..=WINDOW_SECONDS_MAX,
            (days, weeks) in (0..400_u32, 0..200_u32),
            (months, years) in (0..200_u32, 0..50_u32),
        ) {
            let policy = RetentionPolicy { last, window_seconds, days, weeks, months, years };
            prop_assert_eq!(policy.to_string().parse::<RetentionPolicy>(), Ok(policy));
        }

        #[test]
        fn any_text_is_a_policy_or_an_error(text in "\\PC{0,60}") {
            let _ = text.parse::<RetentionPolicy>();
        }
    }
}
