//! The history of jobs: what survives a restart, a torn line, a full file.

use std::fs;

use pgm_mgmt::JobKind;

use super::*;

fn record(job: JobId, state: JobState) -> JobRecord {
    JobRecord {
        job,
        kind: JobKind::Backup,
        server: "prod".parse().unwrap(),
        state,
        asked_by: "ann (local)".to_owned(),
        asked: "2026-11-22T02:34:56Z".to_owned(),
        started: None,
        ended: None,
        phase: "copy".to_owned(),
        done_bytes: 7,
        total_bytes: None,
        outcome: None,
        error: None,
        messages: Vec::new(),
    }
}

fn run_one(history: &mut History) -> JobId {
    let id = history.take_number();
    history.note(&record(id, JobState::Waiting));
    history.note(&record(id, JobState::Running));
    history.note(&record(id, JobState::Done));
    id
}

fn numbers(history: &History) -> Vec<u64> {
    history.ended().map(|record| record.job.number()).collect()
}

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> PathBuf {
        path_in(self.0.path())
    }

    fn open(&self, keep: usize) -> History {
        History::open(self.path(), keep)
    }
}

#[test]
fn numbers_go_on_after_a_restart_and_ended_jobs_are_remembered() {
    let place = Place::new();
    let mut history = place.open(10);
    assert_eq!(run_one(&mut history).number(), 1);
    assert_eq!(run_one(&mut history).number(), 2);
    let mut history = place.open(10);
    assert_eq!(numbers(&history), [1, 2]);
    assert_eq!(history.take_number().number(), 3);
}

#[test]
fn jobs_that_a_dead_daemon_left_are_lost() {
    let place = Place::new();
    let mut history = place.open(10);
    for state in [JobState::Waiting, JobState::Running] {
        let id = history.take_number();
        history.note(&record(id, state));
    }
    for _ in 0..2 {
        let history = place.open(10);
        let states: Vec<_> = history.ended().map(|record| record.state).collect();
        assert_eq!(states, [JobState::Lost; 2]);
        let error = history.ended().next().unwrap().error.clone().unwrap();
        assert_eq!(error.text, "pgmd died while job 1 was waiting");
    }
}

#[test]
fn a_torn_or_strange_line_costs_only_itself_and_its_number_counts() {
    let place = Place::new();
    run_one(&mut place.open(10));
    let whole = fs::read_to_string(place.path()).unwrap();
    let strange = r#"{"job":{"job":41,"kind":"of a later version"}}"#;
    let last = whole.lines().last().unwrap();
    for cut in 0..last.len() {
        let torn = format!("{whole}{strange}\nnonsense\n{}", &last[..cut]);
        fs::write(place.path(), torn).unwrap();
        let mut history = place.open(10);
        assert_eq!(numbers(&history), [1]);
        assert_eq!(run_one(&mut history).number(), 42, "cut at {cut}");
        let history = place.open(10);
        assert_eq!(numbers(&history), [1, 42], "cut at {cut}");
    }
}

#[test]
fn the_newest_are_kept_and_the_file_stays_small() {
    let place = Place::new();
    let mut history = place.open(3);
    let mut largest = 0;
    for _ in 0..400 {
        run_one(&mut history);
        largest = largest.max(fs::read_to_string(place.path()).unwrap().lines().count());
    }
    assert_eq!(numbers(&history), [398, 399, 400]);
    assert!(largest <= STALE_LINES_MAX + 10, "{largest} lines");
    let mut history = place.open(3);
    assert_eq!(numbers(&history), [398, 399, 400]);
    assert_eq!(history.take_number().number(), 401);
    assert!(!place.path().with_extension("jsonl.new").exists());
}

#[test]
fn what_is_forgotten_gives_no_number_back() {
    let place = Place::new();
    let mut history = place.open(10);
    run_one(&mut history);
    let running = history.take_number();
    history.note(&record(running, JobState::Running));
    assert_eq!(history.forget(), 1);
    history.note(&record(running, JobState::Done));
    let mut history = place.open(0);
    assert!(numbers(&history).is_empty());
    assert_eq!(history.take_number().number(), 3);
}

#[test]
fn a_file_that_cannot_be_used_costs_only_the_memory() {
    let place = Place::new();
    fs::create_dir(place.path()).unwrap();
    let mut history = place.open(10);
    run_one(&mut history);
    assert_eq!(numbers(&history), [1]);
}
