//! Clients that commit numbered rows and remember which of them the server acknowledged.
//!
//! An acknowledged row that is missing after a disaster is a broken promise; a row that is there without having been
//! acknowledged is not.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::SystemTime;

use pgm_proto::{Client, ConnInfo, Session};

use crate::cluster::Cluster;
use crate::wait::wait_until;

/// Clients that commit one numbered row after the other until they are told to stop.
///
/// A client whose session ends connects again, so the server may go away and come back meanwhile.
#[derive(Debug)]
pub struct Committers {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    next: AtomicI64,
    stop: AtomicBool,
    count: AtomicUsize,
    acknowledged: Mutex<Acknowledged>,
}

/// The numbers whose commit the server acknowledged, and when the acknowledgement came.
#[derive(Debug, Clone, Default)]
pub struct Acknowledged(BTreeMap<i64, SystemTime>);

impl Committers {
    /// Makes the table `numbered` if it is missing, and starts this many clients, each with autocommit.
    pub fn start(cluster: &Cluster, clients: usize) -> Self {
        cluster.sql(
            "create table if not exists numbered (\
             number bigint primary key, at timestamptz not null default clock_timestamp())",
        );
        let first = cluster.value("select coalesce(max(number), 0) + 1 from numbered");
        let shared = Arc::new(Shared {
            next: AtomicI64::new(first.parse().expect("a number")),
            ..Shared::default()
        });
        let conninfo: ConnInfo = cluster
            .conninfo_superuser()
            .parse()
            .expect("the kit's own connection string");
        let threads = (0..clients)
            .map(|_| {
                let (shared, conninfo) = (Arc::clone(&shared), conninfo.clone());
                thread::spawn(move || shared.commit(&conninfo))
            })
            .collect();
        Self { shared, threads }
    }

    /// How many rows were acknowledged so far.
    pub fn count(&self) -> usize {
        self.shared.count.load(Ordering::SeqCst)
    }

    /// Waits until this many more rows were acknowledged.
    pub fn wait_for_more(&self, rows: usize) {
        let wanted = self.count() + rows;
        wait_until("rows are committed", || self.count() >= wanted);
    }

    /// What was acknowledged so far.
    pub fn acknowledged(&self) -> Acknowledged {
        self.shared.acknowledged().clone()
    }

    /// Tells the clients to stop and returns what was acknowledged.
    ///
    /// A client that waits for a commit waits until the server answers or is gone: destroy the server first if it
    /// may never answer.
    pub fn stop(self) -> Acknowledged {
        self.shared.stop.store(true, Ordering::SeqCst);
        for thread in self.threads {
            thread.join().expect("a client does not panic");
        }
        self.shared.acknowledged().clone()
    }

    /// Tells the clients to stop after their current row, without waiting for them.
    pub fn tell_to_stop(&self) {
        self.shared.stop.store(true, Ordering::SeqCst);
    }
}

impl Shared {
    fn commit(&self, conninfo: &ConnInfo) {
        let mut client = None;
        while !self.stop.load(Ordering::SeqCst) {
            let Some(session) = &mut client else {
                client = Client::connect(conninfo, Session::Sql).ok();
                if client.is_none() {
                    thread::yield_now();
                }
                continue;
            };
            let number = self.next.fetch_add(1, Ordering::SeqCst);
            match session.query(&format!("insert into numbered (number) values ({number})")) {
                Ok(_) => {
                    self.acknowledged().0.insert(number, SystemTime::now());
                    self.count.fetch_add(1, Ordering::SeqCst);
                }
                Err(_) => client = None,
            }
        }
    }

    fn acknowledged(&self) -> std::sync::MutexGuard<'_, Acknowledged> {
        self.acknowledged
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Acknowledged {
    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The numbers and when each was acknowledged, in the numbers' order.
    pub fn iter(&self) -> impl Iterator<Item = (i64, SystemTime)> {
        self.0.iter().map(|(number, at)| (*number, *at))
    }

    /// The acknowledged numbers that `cluster` does not have.
    pub fn missing_in(&self, cluster: &Cluster) -> Vec<i64> {
        let mut there = std::collections::HashSet::new();
        let mut last = i64::MIN;
        // In pieces: a client takes no answer of any size.
        loop {
            let rows = cluster.sql(&format!(
                "select number from numbered where number > {last} order by 1 limit 100000"
            ));
            let Some(row) = rows.last() else { break };
            last = row[0].parse().expect("a number");
            there.extend(
                rows.iter()
                    .map(|row| row[0].parse::<i64>().expect("a number")),
            );
        }
        self.0
            .keys()
            .copied()
            .filter(|number| !there.contains(number))
            .collect()
    }
}
