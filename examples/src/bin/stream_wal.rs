//! Streams a server's WAL into a folder, as `pg_receivewal --synchronous` does, until SIGTERM or SIGINT.
//!
//! ```text
//! stream_wal CONNINFO DIR [--slot NAME] [--until LSN]
//! ```

use std::error::Error;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use pgm_proto::{Lsn, PostgresTransport, SlotPolicy, TransportOptions};
use pgm_storage::Cancel;
use pgm_wal::{DurableLsn, ReceiveError, ReceiveObserver, ReceiveOptions, Receiver, Spool};

/// Tells of failures, and stops when WAL up to a position is durable.
struct Watch(Cancel, Lsn);

impl ReceiveObserver for Watch {
    fn durable(&mut self, lsn: DurableLsn) {
        if lsn.lsn() >= self.1 {
            self.0.cancel();
        }
    }

    fn error(&mut self, error: &ReceiveError, retry_in: Duration) {
        eprintln!("{error}; trying again in {retry_in:?}");
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [conninfo, folder, options @ ..] = &arguments[..] else {
        return Err("usage: stream_wal CONNINFO DIR [--slot NAME] [--until LSN]".into());
    };
    let option = |name| options.iter().skip_while(|text| *text != name).nth(1);
    let transport = PostgresTransport::new(TransportOptions {
        conninfo: conninfo.parse()?,
        slot: option("--slot").map(|slot| slot.parse()).transpose()?,
        create_slot: SlotPolicy::Create,
    });
    // A signal makes `wake` readable, which stops the receiver in order.
    let (wake, signalled) = UnixStream::pair()?;
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
        signal_hook::low_level::pipe::register(signal, signalled.try_clone()?)?;
    }
    let options = ReceiveOptions {
        wake: Some(Arc::new(wake.into())),
        ..Default::default()
    };
    let until = option("--until").map_or(Ok(Lsn::new(u64::MAX)), |lsn| lsn.parse())?;
    let cancel = Cancel::new();
    let mut receiver = Receiver::new(transport, Spool::open(folder)?, options);
    let stopped = receiver.run_forever(&cancel, &mut Watch(cancel.clone(), until))?;
    if let Some(lsn) = stopped.durable {
        println!("durable up to {lsn}");
    }
    Ok(())
}
