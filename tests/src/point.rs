//! Moments to which a server can be restored, in every form in which they can be named.

use crate::cluster::Cluster;

/// The moment after one numbered row was committed.
#[derive(Debug, Clone)]
pub struct Point {
    /// The row's number.
    pub number: u32,
    /// The transaction that committed it.
    pub xid: String,
    /// The end of the WAL after the commit.
    pub lsn: String,
    /// The server's clock after the commit.
    pub time: String,
    /// A restore point that was made then.
    pub name: String,
}

impl Point {
    /// Commits a row to the table `numbered`, which is made if it is missing.
    pub fn commit(cluster: &Cluster, number: u32) -> Self {
        cluster.sql("create table if not exists numbered (number int primary key)");
        let xid = cluster.value(&format!(
            "insert into numbered values ({number}) returning pg_current_xact_id()::text"
        ));
        let name = format!("after row {number}");
        let [lsn, time] = cluster.sql("select pg_current_wal_insert_lsn(), clock_timestamp()")[0]
            .clone()
            .try_into()
            .expect("two columns");
        cluster.value(&format!("select pg_create_restore_point('{name}')"));
        Self {
            number,
            xid,
            lsn,
            time,
            name,
        }
    }

    /// The numbers of the rows that `cluster` has.
    pub fn rows(cluster: &Cluster) -> Vec<u32> {
        let rows = cluster.sql("select number from numbered order by 1");
        let number = |row: &Vec<String>| row[0].parse().expect("a number");
        rows.iter().map(number).collect()
    }
}
