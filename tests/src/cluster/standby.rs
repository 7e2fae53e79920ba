//! Standbys, and their promotion.

use std::fs::{self, File};

use super::{Cluster, StopMode};
use crate::process::run_ok;
use crate::wait::wait_until;

impl Cluster {
    /// Makes a streaming standby out of a cold copy: this server is stopped, copied, and started again.
    ///
    /// It works alike on every major, whatever client programs there are. Tablespaces cannot be copied this way.
    #[must_use]
    pub fn standby(&mut self) -> Self {
        let linked = fs::read_dir(self.data().join("pg_tblspc"))
            .expect("every data directory has it")
            .count();
        assert!(
            linked == 0,
            "a cold copy would share the primary's tablespaces"
        );
        self.stop(StopMode::Fast);
        let mut standby = Self::builder(self.major()).adopt(self.data());
        standby.data = standby.scratch.join("data");
        run_ok(
            std::process::Command::new("cp")
                .arg("-a")
                .arg(self.data())
                .arg(&standby.data),
        );
        self.start();
        standby.configure(
            "primary_conninfo",
            &format!("{} application_name=standby", self.conninfo_superuser()),
        );
        standby.configure("recovery_target_timeline", "latest");
        File::create(standby.data.join("standby.signal"))
            .expect("the data directory can be written to");
        standby.start();
        wait_until("the standby streams", || {
            standby.value("select count(*) from pg_stat_wal_receiver where status = 'streaming'")
                == "1"
        });
        standby
    }

    /// Promotes this standby and waits until it accepts writes.
    pub fn promote(&self) {
        assert_eq!(
            self.value("select pg_promote(true, 100)"),
            "t",
            "the standby was not promoted"
        );
        wait_until("the promoted server accepts writes", || {
            self.value("select pg_is_in_recovery()") == "f"
        });
    }

    /// Waits until this standby has replayed everything that `primary` has written up to now.
    pub fn catch_up_with(&self, primary: &Self) {
        let lsn = primary.value("select pg_current_wal_flush_lsn()");
        wait_until("the standby catches up", || {
            self.value(&format!("select pg_last_wal_replay_lsn() >= '{lsn}'")) == "t"
        });
    }
}
