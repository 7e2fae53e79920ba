//! Lives of workers as golden scripts.

use std::fmt::Write as _;

use super::*;

/// Plays a script of `milliseconds event` lines and prints what the worker's life makes of it.
fn play(script: &str) -> String {
    let mut life = Life::new();
    let mut log = String::new();
    for line in script
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
    {
        let (at, event) = line.split_once(' ').unwrap();
        let event = match event.trim() {
            "spawned" => Event::Spawned,
            "failed" => Event::SpawnFailed,
            "exited" => Event::Exited,
            "stop" => Event::Stop,
            "tick" => Event::Tick,
            other => panic!("{other}"),
        };
        let action = life.handle(Duration::from_millis(at.parse().unwrap()), event);
        let action = action.map_or(String::new(), |action| format!(" -> {action:?}"));
        let _ = writeln!(log, "{line}: {:?}{action}", life.state());
    }
    log
}

#[test]
fn a_killed_worker_is_started_again_at_once() {
    insta::assert_snapshot!(play("
        0 spawned
        400 exited
        400 tick
        401 spawned
    "), @r"
    0 spawned: Running { since: 0ns }
    400 exited: Waiting { until: 400ms }
    400 tick: Starting -> Spawn
    401 spawned: Running { since: 401ms }
    ");
}

#[test]
fn pauses_grow_to_a_ceiling() {
    let pauses: Vec<_> = (0..10)
        .map(|failures| pause(failures).as_millis())
        .collect();
    assert_eq!(
        pauses,
        [0, 100, 200, 400, 800, 1600, 3200, 5000, 5000, 5000]
    );
    assert_eq!(pause(u32::MAX), PAUSE_MAX);
}

#[test]
fn a_worker_that_cannot_be_started_is_tried_again() {
    insta::assert_snapshot!(play("
        0 failed
        0 tick
        1 failed
        50 tick
        101 tick
    "), @r"
    0 failed: Waiting { until: 0ns }
    0 tick: Starting -> Spawn
    1 failed: Waiting { until: 101ms }
    50 tick: Waiting { until: 101ms }
    101 tick: Starting -> Spawn
    ");
}

#[test]
fn a_healthy_life_forgets_old_failures() {
    insta::assert_snapshot!(play("
        0 spawned
        10 exited
        10 tick
        20 spawned
        30 exited
        130 tick
        140 spawned
        30140 exited
    "), @r"
    0 spawned: Running { since: 0ns }
    10 exited: Waiting { until: 10ms }
    10 tick: Starting -> Spawn
    20 spawned: Running { since: 20ms }
    30 exited: Waiting { until: 130ms }
    130 tick: Starting -> Spawn
    140 spawned: Running { since: 140ms }
    30140 exited: Waiting { until: 30.14s }
    ");
}

#[test]
fn a_stop_asks_first_and_kills_when_patience_ends() {
    insta::assert_snapshot!(play("
        0 spawned
        1000 stop
        2000 tick
        21000 tick
        21001 exited
        21002 tick
    "), @r"
    0 spawned: Running { since: 0ns }
    1000 stop: Stopping { until: 21s } -> Terminate
    2000 tick: Stopping { until: 21s }
    21000 tick: Stopping { until: 41s } -> Kill
    21001 exited: Stopped -> Finish
    21002 tick: Stopped
    ");
}

#[test]
fn a_stop_during_a_pause_ends_at_once() {
    insta::assert_snapshot!(play("
        0 failed
        0 tick
        1 failed
        2 stop
        500 tick
    "), @r"
    0 failed: Waiting { until: 0ns }
    0 tick: Starting -> Spawn
    1 failed: Waiting { until: 101ms }
    2 stop: Stopped -> Finish
    500 tick: Stopped
    ");
}
