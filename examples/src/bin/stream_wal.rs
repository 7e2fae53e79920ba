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

/// Tells of failures, and stops when enough is durable.
struct Watch {
    cancel: Cancel,
    until: Option<Lsn>,
}

impl ReceiveObserver for Watch {
    fn durable(&mut self, lsn: DurableLsn) {
        if self.until.is_some_and(|until| lsn.lsn() >= until) {
            self.cancel.cancel();
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
    let options = ReceiveOptions { wake: Some(Arc::new(wake.into())), ..Default::default() };
    let until = option("--until").map(|lsn| lsn.parse()).transpose()?;
    let cancel = Cancel::new();
    let mut watch = Watch { cancel: cancel.clone(), until };
    let mut receiver = Receiver::new(transport, Spool::open(folder)?, options);
    let stopped = receiver.run_forever(&cancel, &mut watch)?;
    println!("durable up to {}", stopped.durable.map_or(Lsn::INVALID, DurableLsn::lsn));
    Ok(())
}
