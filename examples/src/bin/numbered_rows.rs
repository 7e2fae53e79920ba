//! The quickstart's load: commits numbered rows, writes down every number whose commit was acknowledged, and checks
//! a restored server against that list.
//!
//! ```text
//! numbered_rows load CONNINFO FILE CLIENTS    commits until the server is gone; FILE gets a number a line
//! numbered_rows check CONNINFO FILE           are all numbers of FILE there?
//! numbered_rows query CONNINFO SQL            prints the first column
//! ```

use std::collections::HashSet;
use std::error::Error;
use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use pgm_proto::{Client, ConnInfo, Session};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["load", conninfo, file, clients] => load(&conninfo.parse()?, file, clients.parse()?),
        ["check", conninfo, file] => check(&conninfo.parse()?, file),
        ["query", conninfo, sql] => {
            first_column(&conninfo.parse()?, sql)?.iter().for_each(|cell| println!("{cell}"));
            Ok(())
        }
        _ => Err("usage: numbered_rows load CONNINFO FILE CLIENTS | check CONNINFO FILE | query CONNINFO SQL".into()),
    }
}

/// Commits rows from several connections until the server is gone.
fn load(conninfo: &ConnInfo, file: &str, clients: u32) -> Result<(), Box<dyn Error>> {
    let acknowledged = Mutex::new(OpenOptions::new().create(true).append(true).open(file)?);
    let next = AtomicU64::new(1);
    std::thread::scope(|scope| {
        for _ in 0..clients {
            scope.spawn(|| commit_until_gone(conninfo, &next, &acknowledged));
        }
    });
    println!(
        "the server is gone after {} attempts to commit a row",
        next.load(Ordering::Relaxed) - 1
    );
    Ok(())
}

fn commit_until_gone(conninfo: &ConnInfo, next: &AtomicU64, acknowledged: &Mutex<File>) {
    let Ok(mut client) = Client::connect(conninfo, Session::Sql) else {
        return;
    };
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        let insert = format!(
            "INSERT INTO numbered (id, filler) VALUES ({number}, repeat(md5('{number}'), 8))"
        );
        if client.query(&insert).is_err() {
            return;
        }
        // Only now: the server has answered, so it promised to keep the row.
        let written = acknowledged
            .lock()
            .map(|mut file| writeln!(file, "{number}"));
        if !matches!(written, Ok(Ok(()))) {
            return;
        }
    }
}

/// Counts acknowledged rows that are missing; there must be none.
fn check(conninfo: &ConnInfo, file: &str) -> Result<(), Box<dyn Error>> {
    let there: HashSet<String> = first_column(conninfo, "SELECT id FROM numbered")?
        .into_iter()
        .collect();
    let acknowledged = BufReader::new(File::open(file)?)
        .lines()
        .collect::<Result<Vec<_>, _>>()?;
    let missing = acknowledged
        .iter()
        .filter(|number| !there.contains(*number))
        .count();
    println!(
        "{} acknowledged rows, {} restored, {missing} missing",
        acknowledged.len(),
        there.len()
    );
    if missing == 0 {
        Ok(())
    } else {
        Err(format!("{missing} acknowledged rows are missing").into())
    }
}

fn first_column(conninfo: &ConnInfo, sql: &str) -> Result<Vec<String>, Box<dyn Error>> {
    let results = Client::connect(conninfo, Session::Sql)?.query(sql)?;
    let rows = results.into_iter().flat_map(|result| result.rows);
    Ok(rows.filter_map(|row| row.into_iter().next()?).collect())
}
