//! The rules against examples, and against a second calculation that goes another way.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn sound(begun: Timestamp) -> Candidate {
    Candidate {
        label: BackupLabel::from_time(begun),
        consistent: begun + SignedDuration::from_mins(10),
        standing: Standing::Sound,
        mark: Mark::None,
    }
}

fn policy(text: &str) -> RetentionPolicy {
    text.parse().unwrap()
}

fn staying(decisions: &[Decision]) -> Vec<String> {
    let staying = decisions.iter().filter(|decision| decision.stays());
    staying
        .map(|decision| {
            let reasons = decision.reasons.iter().map(ToString::to_string);
            let reasons: Vec<_> = reasons.collect();
            format!("{}: {}", decision.label, reasons.join("; "))
        })
        .collect()
}

#[test]
fn without_a_rule_everything_stays() {
    let backups = [
        sound(at("2026-01-01T02:00:00Z")),
        sound(at("2026-01-02T02:00:00Z")),
    ];
    let decisions = select(&RetentionPolicy::EVERYTHING, &backups, None);
    assert!(decisions.iter().all(Decision::stays));
}

#[test]
fn each_rule_says_why() {
    let mut backups: Vec<_> = (0..40)
        .map(|day| sound(at("2026-01-01T02:00:00Z") + SignedDuration::from_hours(24 * day)))
        .collect();
    backups[2].mark = Mark::Retained;
    backups[5].standing = Standing::Damaged;
    let rules = policy("last 2, window 3d, weeks 2, months 2, years 1");
    assert_eq!(
        staying(&select(&rules, &backups, None)),
        [
            "20260101T020000Z: first of the month 2026-01; first of the year 2026",
            "20260103T020000Z: retained",
            "20260106T020000Z: damaged: a person has to decide",
            "20260201T020000Z: first of the month 2026-02",
            "20260202T020000Z: first of the week 2026-W06",
            "20260206T020000Z: the recovery window begins with it",
            "20260207T020000Z: in the recovery window",
            "20260208T020000Z: 2 of the last 2; in the recovery window",
            "20260209T020000Z: the newest that can be restored; 1 of the last 2; in the recovery window; first of the week 2026-W07",
        ]
    );
}

#[test]
fn the_newest_sound_backup_stays_whatever_the_rules() {
    let mut backups = vec![
        sound(at("2020-01-01T02:00:00Z")),
        sound(at("2020-01-02T02:00:00Z")),
    ];
    backups[1].standing = Standing::Damaged;
    // Years of WAL have come since: the window begins long after both.
    let decisions = select(
        &policy("window 1d"),
        &backups,
        Some(at("2026-01-01T00:00:00Z")),
    );
    assert_eq!(
        staying(&decisions),
        [
            "20200101T020000Z: the newest that can be restored; the recovery window begins with it",
            "20200102T020000Z: damaged: a person has to decide",
        ]
    );
}

#[test]
fn a_server_that_was_switched_off_keeps_what_it_has() {
    let backups: Vec<_> = (0..5)
        .map(|day| sound(at("2020-01-01T02:00:00Z") + SignedDuration::from_hours(24 * day)))
        .collect();
    let decisions = select(&policy("window 30d, days 7"), &backups, None);
    assert!(decisions.iter().all(Decision::stays));
}

type NameOfPeriod = fn(Date) -> String;

/// The rules once more, as a person would apply them with a calendar: for each backup, by counting what is newer.
fn by_calendar(
    policy: &RetentionPolicy,
    backups: &[Candidate],
    known: Option<Timestamp>,
) -> BTreeSet<BackupLabel> {
    let usable: Vec<&Candidate> = backups
        .iter()
        .filter(|backup| backup.standing == Standing::Sound)
        .collect();
    let date = |backup: &Candidate| backup.label.time().to_zoned(TimeZone::UTC).date();
    let names: [(u32, NameOfPeriod); 4] = [
        (policy.days, |day| day.to_string()),
        (policy.weeks, |day| {
            let monday = day.weekday().to_monday_zero_offset();
            day.saturating_sub(jiff::Span::new().days(monday))
                .to_string()
        }),
        (policy.months, |day| {
            format!("{}-{}", day.year(), day.month())
        }),
        (policy.years, |day| day.year().to_string()),
    ];
    let latest = usable
        .iter()
        .map(|backup| backup.consistent)
        .max()
        .max(known);
    backups
        .iter()
        .filter(|backup| {
            if backup.mark == Mark::Retained || backup.standing == Standing::Damaged {
                return true;
            }
            let newer = usable.iter().filter(|other| other.label > backup.label);
            let newer: Vec<&&Candidate> = newer.collect();
            if newer.is_empty() || newer.len() < policy.last as usize {
                return true;
            }
            if policy.window_seconds > 0 {
                let begins =
                    latest.unwrap().as_second() - i64::try_from(policy.window_seconds).unwrap();
                let replaced = newer
                    .iter()
                    .any(|other| other.consistent <= Timestamp::from_second(begins).unwrap());
                if !replaced {
                    return true;
                }
            }
            names.iter().any(|(count, name)| {
                let mine = name(date(backup));
                let earlier_in_period = usable
                    .iter()
                    .any(|other| other.label < backup.label && name(date(other)) == mine);
                let later: BTreeSet<String> = newer
                    .iter()
                    .map(|other| name(date(other)))
                    .filter(|period| *period != mine)
                    .collect();
                !earlier_in_period && later.len() < *count as usize
            }) || policy.keeps_everything()
        })
        .map(|backup| backup.label)
        .collect()
}

fn labels(decisions: &[Decision]) -> BTreeSet<BackupLabel> {
    let staying = decisions.iter().filter(|decision| decision.stays());
    staying.map(|decision| decision.label).collect()
}

#[test]
fn three_years_of_daily_backups_agree_with_the_calendar_every_day() {
    let rules = policy("last 3, window 10d, days 7, weeks 4, months 12, years 3");
    let mut kept: Vec<Candidate> = Vec::new();
    for day in 0..3 * 365 {
        kept.push(sound(
            at("2023-10-05T01:30:00Z") + SignedDuration::from_hours(24 * day),
        ));
        let decisions = select(&rules, &kept, None);
        assert_eq!(
            labels(&decisions),
            by_calendar(&rules, &kept, None),
            "day {day}"
        );
        let staying = labels(&decisions);
        kept.retain(|backup| staying.contains(&backup.label));
    }
    // 10 days of window and its start, 4 weeks, 12 months, 3 years, some of them the same.
    assert!((22..=30).contains(&kept.len()), "{}", kept.len());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn any_history_agrees_with_the_calendar(
        gaps in prop::collection::vec((1..400_000_i64, 0..8_u8, 0..8_u8), 0..60),
        (last, days, weeks) in (0..5_u32, 0..9_u32, 0..6_u32),
        (months, years, window) in (0..6_u32, 0..4_u32, 0..3_000_000_u64),
        known in prop::option::of(0..5_000_000_i64),
    ) {
        let mut when = at("2024-12-20T12:00:00Z");
        let mut backups = Vec::new();
        for (gap, damaged, retained) in gaps {
            when += SignedDuration::from_secs(gap);
            let mut backup = sound(when);
            // Backups follow one another, so each is consistent before the next begins or soon after.
            backup.consistent = when + SignedDuration::from_secs(1);
            if damaged == 0 { backup.standing = Standing::Damaged; }
            if retained == 0 { backup.mark = Mark::Retained; }
            backups.push(backup);
        }
        let known = known.map(|later| when + SignedDuration::from_secs(later));
        let policy = RetentionPolicy { last, window_seconds: window, days, weeks, months, years };
        let decisions = select(&policy, &backups, known);
        prop_assert_eq!(labels(&decisions), by_calendar(&policy, &backups, known));
        // What can be restored today can be restored after every deletion.
        let newest = backups.iter().rev().find(|backup| backup.standing == Standing::Sound);
        if let Some(newest) = newest {
            prop_assert!(labels(&decisions).contains(&newest.label));
        }
    }
}
