//! Talking SQL to a cluster, through pgm's own client.

use super::Cluster;
use crate::majors::Major;
use crate::process::run_ok;

impl Cluster {
    /// Runs `sql` as the superuser and returns the rows of its last statement, columns apart; NULL is `∅`.
    pub fn sql(&self, sql: &str) -> Vec<Vec<String>> {
        let mut psql = Major::V17.command("psql");
        psql.args([
            "-X",
            "-q",
            "-A",
            "-t",
            "-F",
            "\u{1f}",
            "-P",
            "null=∅",
            "-v",
            "ON_ERROR_STOP=1",
        ]);
        let text = run_ok(
            psql.arg("-d")
                .arg(self.conninfo_superuser())
                .arg("-c")
                .arg(sql),
        );
        text.lines()
            .map(|line| line.split('\u{1f}').map(str::to_owned).collect())
            .collect()
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
