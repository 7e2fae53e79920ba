//! Clients that change rows and relations for as long as they are let.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};

use crate::cluster::Cluster;
use crate::wait::wait_until;

/// Clients at work on the table `busy` and on tables that they make and drop.
#[derive(Debug)]
pub struct Writers {
    stop: Arc<AtomicBool>,
    rounds: Arc<AtomicUsize>,
    threads: Vec<JoinHandle<()>>,
}

impl Writers {
    /// Starts so many clients, and waits until they are at work.
    pub fn start(cluster: &Cluster, clients: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let rounds = Arc::new(AtomicUsize::new(0));
        let threads = (0..clients).map(|number| {
            let mut client = cluster.client();
            let (stop, rounds) = (Arc::clone(&stop), Arc::clone(&rounds));
            thread::spawn(move || {
                for round in 0.. {
                    if stop.load(Ordering::SeqCst) {
                        return;
                    }
                    let sql = statement(number, round);
                    // Two of them may get into each other's way.
                    if let Err(error) = client.query(&sql) {
                        assert!(
                            matches!(error, pgm_proto::Error::Server(_)),
                            "{sql}\n{error}"
                        );
                    }
                    rounds.fetch_add(1, Ordering::SeqCst);
                }
            })
        });
        let threads = threads.collect();
        let writers = Self {
            stop,
            rounds,
            threads,
        };
        writers.wait_for_more(20);
        writers
    }

    /// Waits until so many more statements have ended.
    pub fn wait_for_more(&self, rounds: usize) {
        let wanted = self.rounds.load(Ordering::SeqCst) + rounds;
        wait_until("the writers write", || {
            self.rounds.load(Ordering::SeqCst) >= wanted
        });
    }

    /// Stops them after the statements that they are at.
    pub fn stop(self) {
        self.stop.store(true, Ordering::SeqCst);
        for thread in self.threads {
            thread.join().expect("a writer does not panic");
        }
    }
}

fn statement(client: usize, round: usize) -> String {
    let own = format!("busy{client}");
    match round % 12 {
        0 => format!(
            "create table if not exists {own} as select n, md5(n::text) word from generate_series(1, 2000) n"
        ),
        1 => format!("create index on {own} (word)"),
        7 => format!(
            "truncate {own}; insert into {own} select n, 'again' from generate_series(1, 500) n"
        ),
        9 => format!("vacuum {own}"),
        10 => "vacuum busy".to_owned(),
        11 if round % 24 == 11 => format!("drop table {own}"),
        4 => format!("delete from busy where n % 89 = {round} % 89"),
        5 => format!("insert into busy select n, md5('{round}') from generate_series(1, 200) n"),
        _ => format!(
            "update busy set word = md5(word || '{round}') where n between {0} and {0} + 30",
            round * 37 % 5000
        ),
    }
}
