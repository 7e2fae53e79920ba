//! Talking SQL to a cluster, through pgm's own client.

use pgm_proto::{Client, ConnInfo, Session};

use super::Cluster;
use crate::Major;

impl Cluster {
    /// A session as the superuser.
    pub fn client(&self) -> Client {
        let conninfo: ConnInfo = self
            .conninfo_superuser()
            .parse()
            .expect("the kit's own connection string");
        Client::connect(&conninfo, Session::Sql)
            .unwrap_or_else(|error| panic!("{}: {error}", self.conninfo_superuser()))
    }

    /// Runs `sql` as the superuser in a session of its own and returns the rows of its last statement; a NULL is empty.
    pub fn sql(&self, sql: &str) -> Vec<Vec<String>> {
        let results = self
            .client()
            .query(sql)
            .unwrap_or_else(|error| panic!("{sql}\n{error}"));
        let rows = results.into_iter().next_back().unwrap_or_default().rows;
        rows.into_iter()
            .map(|row| row.into_iter().map(Option::unwrap_or_default).collect())
            .collect()
    }

    /// Lets the role of the tests begin and end backups: what it takes to read the server's files where they are.
    pub fn grant_backups(&self) {
        let functions = if self.major() < Major::V15 {
            "pg_start_backup(text, boolean, boolean), pg_stop_backup(boolean, boolean)"
        } else {
            "pg_backup_start(text, boolean), pg_backup_stop(boolean)"
        };
        self.sql(&format!("grant execute on function {functions} to pgm"));
    }

    /// Lets it also list folders and read files: what it takes to read them through the server, beside [`Self::grant_backups`].
    pub fn grant_file_reads(&self) {
        self.sql(
            "grant execute on function pg_ls_dir(text, boolean, boolean), pg_stat_file(text, boolean), \
             pg_read_binary_file(text, bigint, bigint, boolean) to pgm",
        );
    }

    /// Runs `sql` as the superuser and returns its one value.
    pub fn value(&self, sql: &str) -> String {
        let rows = self.sql(sql);
        let [row] = rows.as_slice() else {
            panic!("not one row: {sql} gave {rows:?}")
        };
        let [value] = row.as_slice() else {
            panic!("not one column: {sql} gave {row:?}")
        };
        value.clone()
    }
}
