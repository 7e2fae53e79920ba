//! TCP ports that stay a test's own while its server is down.
//!
//! Asking the system for a free port is not enough: between a server's stop and its next start, somebody else's outgoing
//! connection may get it. These lie below the range that Linux gives out by itself, and are claimed by a file.

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::PathBuf;

const FIRST: u32 = 18_000;
const COUNT: u32 = 12_000;

/// A port on 127.0.0.1 that no other test uses; given back when dropped.
#[derive(Debug)]
pub struct Port {
    number: u16,
    claim: PathBuf,
}

impl Port {
    /// Claims one.
    pub fn claim() -> Self {
        let folder = std::env::temp_dir().join("pgm-ports");
        fs::create_dir_all(&folder).expect("the folder of claimed ports can be made");
        // Runs that do not share a temporary folder begin at different places.
        let start = std::process::id().wrapping_mul(97);
        for attempt in 0..COUNT {
            let number =
                u16::try_from(FIRST + start.wrapping_add(attempt) % COUNT).expect("below 65536");
            let claim = folder.join(number.to_string());
            if File::create_new(&claim).is_err() {
                continue;
            }
            if TcpListener::bind(("127.0.0.1", number)).is_ok() {
                return Self { number, claim };
            }
            let _ = fs::remove_file(claim);
        }
        panic!("no free port from {FIRST} on");
    }

    /// Its number.
    pub fn number(&self) -> u16 {
        self.number
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.claim);
    }
}
