//! What happens to one server is nothing to another: its WAL is not delayed.
#![allow(clippy::unwrap_used, reason = "a test: what fails in it must fail it")]

use std::time::{Duration, Instant, SystemTime};

use pgm_tests::{
    Acknowledged, Cluster, Committers, Fault, Major, Pgmd, Proxy, kill_worker, wait_until,
};

/// A fraction of what the troubled servers wait for (ten seconds for an answer), and far more than a busy machine needs.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// The longest time in which no commit was acknowledged.
fn longest_pause(acknowledged: &Acknowledged) -> Duration {
    let mut times: Vec<SystemTime> = acknowledged.iter().map(|(_, at)| at).collect();
    times.sort();
    times
        .windows(2)
        .map(|pair| pair[1].duration_since(pair[0]).unwrap())
        .max()
        .unwrap()
}

#[test]
fn dead_addresses_and_killed_workers_do_not_delay_another_server() {
    let alive = Cluster::builder(Major::V17).start();
    let other = Cluster::builder(Major::V17).start();
    // It accepts connections and says nothing, for ever.
    let silent = Proxy::to(other.port());
    silent.set(Fault::SilenceAfter(0));
    let silent_conninfo = other
        .conninfo()
        .replace(&other.port().to_string(), &silent.port().to_string());
    let mut pgmd = Pgmd::configured(&[
        ("alive", &alive.conninfo()),
        ("closed", "host=127.0.0.1 port=1 user=pgm dbname=postgres"),
        (
            "nameless",
            "host=no-such-host.invalid user=pgm dbname=postgres",
        ),
        ("other", &other.conninfo()),
        ("silent", &silent_conninfo),
    ]);
    pgmd.start();
    pgmd.wait_streaming("alive");
    pgmd.wait_streaming("other");
    alive.configure("synchronous_standby_names", "pgmd");
    alive.reload();
    wait_until("pgmd is the synchronous standby", || {
        alive.sql("select sync_state from pg_stat_replication") == [["sync"]]
    });

    let committers = Committers::start(&alive, 1);
    committers.wait_for_more(1);
    let until = Instant::now() + Duration::from_secs(5);
    let mut kills = 0;
    while Instant::now() < until {
        for server in ["other", "closed", "silent"] {
            if let Some(pid) = pgmd.receive_worker(server) {
                kill_worker(pid);
                kills += 1;
            }
        }
        committers.wait_for_more(50);
    }
    let acknowledged = committers.stop();
    assert!(kills > 3, "{kills}");
    let pause = longest_pause(&acknowledged);
    assert!(
        pause < PAUSE_MAX,
        "{pause:?} without a commit; {} commits",
        acknowledged.len()
    );

    for server in ["closed", "nameless"] {
        wait_until("the trouble is said", || {
            !pgmd.status(server)["last_error"].is_null()
        });
    }
    assert_eq!(pgmd.status("alive")["state"], "streaming");
}
