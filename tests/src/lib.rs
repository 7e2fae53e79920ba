//! pgm's test kit: real PostgreSQL clusters, scripted peers, fault injection; and the journeys.
//!
//! A journey (`tests/tests/*.rs`) makes what it needs out of these parts, and everything that it made is gone when its
//! values are dropped. What fails in the kit fails the test that uses it: the kit panics with the reason.
//!
//! Journeys are run by `tests/run`, which fetches PostgreSQL and leaves root's privileges.
#![allow(
    clippy::missing_panics_doc,
    clippy::unwrap_used,
    reason = "a test kit: what fails in it must fail the test"
)]

mod certificates;
mod chaos_proxy;
mod cluster;
mod compare;
mod daemon;
mod fake_gcs;
pub mod fake_server;
mod faulty_storage;
mod file_reads;
mod holders;
mod http;
mod http_message;
mod majors;
mod point;
mod port;
mod process;
mod proxy;
mod random;
mod receiving;
mod refusal;
mod rows;
mod s3_requests;
mod scratch;
mod steps;
mod store_server;
mod thread_allocations;
mod wait;
mod workload;

pub use certificates::Certificates;
pub use chaos_proxy::ChaosProxy;
pub use cluster::{Auth, Cluster, ClusterBuilder, PASSWORD, ROLE, StopMode, Tls};
pub use compare::{Difference, differences};
pub use daemon::{Pgmd, built, kill_worker, processes_of};
pub use fake_gcs::FakeGcs;
pub use faulty_storage::{Broken, FaultyStorage};
pub use file_reads::{FileReads, backup_label, check_restored, table_rows, take_backup};
pub use holders::holders;
pub use http::{HttpAnswer, http};
pub use majors::{Major, majors};
pub use point::Point;
pub use port::Port;
pub use process::{Run, run, run_ok};
pub use proxy::{Fault, Proxy};
pub use random::Random;
pub use receiving::{Receiving, Seen};
pub use refusal::{refusal, refusal_in_json, says};
pub use rows::Rows;
pub use s3_requests::Requests;
pub use scratch::Scratch;
pub use steps::{Steps, Writers};
pub use store_server::{StoreKind, StoreServer};
pub use thread_allocations::{ThreadCountingAllocator, thread_allocations};
pub use wait::{wait_for, wait_until};
pub use workload::{Acknowledged, Committers};
