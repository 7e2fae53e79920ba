//! The viewer without a terminal: keys go in, and what is on the screen is looked at.

use std::path::Path;

use pgm_proto::Lsn;
use pgm_wal::files::Run;
use pgm_wal::record::{RecordReader, TransactionEnd, TransactionKind};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent};

use super::draw::draw;
use super::log::Log;
use super::state::State;
use crate::arguments::WalSourceArguments;
use crate::command::wal_source::WalSource;
use crate::relation_names::RelationLabels;

/// Three segments of a real server, with holes between them.
const SEGMENTS: [&str; 3] = [
    "000000010000000000000084.zst",
    "00000001000000000000028C.zst",
    "000000010000000000000306.zst",
];

fn wal() -> (WalSource, Vec<Run>) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/wal/pg17");
    let arguments = WalSourceArguments {
        paths: SEGMENTS.iter().map(|name| folder.join(name)).collect(),
        server: None,
        timeline: None,
        start: None,
        end: None,
    };
    let wal = WalSource::of_files(&arguments).unwrap();
    let runs = wal.runs(&arguments);
    assert_eq!(runs.len(), 3);
    (wal, runs)
}

struct Screen<'a> {
    state: State<'a>,
    terminal: Terminal<TestBackend>,
}

impl<'a> Screen<'a> {
    fn new(wal: &'a WalSource, runs: Vec<Run>) -> Self {
        let mut screen = Self {
            state: State::new(Log::new(wal, runs), RelationLabels::default()),
            terminal: Terminal::new(TestBackend::new(120, 30)).unwrap(),
        };
        screen.settle();
        screen
    }

    fn settle(&mut self) {
        while self.state.is_busy() {
            self.state.work();
        }
    }

    fn key(&mut self, code: KeyCode) {
        self.state.key(KeyEvent::from(code), 10);
        self.settle();
    }

    fn type_in(&mut self, text: &str) {
        for character in text.chars() {
            self.key(KeyCode::Char(character));
        }
        self.key(KeyCode::Enter);
    }

    fn lsn(&self) -> Lsn {
        self.state.row().unwrap().place.lsn
    }

    fn text(&mut self) -> String {
        self.terminal
            .draw(|frame| {
                draw(frame, "the WAL", &mut self.state);
            })
            .unwrap();
        self.terminal.backend().to_string()
    }
}

/// Where all records begin, and which of them are commits.
fn records(wal: &WalSource, runs: &[Run]) -> Vec<(Lsn, bool)> {
    let mut found = Vec::new();
    for run in runs {
        let source = wal.source(*run);
        let mut reader = RecordReader::seek(source, wal.history.clone(), run.start).unwrap();
        while let Some(record) = reader.next().unwrap() {
            let commits =
                TransactionEnd::of(&record).is_some_and(|end| end.kind == TransactionKind::Commit);
            found.push((record.lsn, commits));
        }
    }
    found
}

#[test]
fn all_records_are_passed_downwards_and_upwards_and_few_are_kept() {
    let (wal, runs) = wal();
    let expected: Vec<Lsn> = records(&wal, &runs).iter().map(|(lsn, _)| *lsn).collect();
    assert!(expected.len() > 9000, "{}", expected.len());
    let mut screen = Screen::new(&wal, runs);
    for lsn in &expected {
        assert_eq!(screen.lsn(), *lsn);
        assert!(screen.state.rows.len() <= 2000);
        screen.key(KeyCode::Down);
    }
    assert!(screen.text().contains("the WAL ends here"));
    for lsn in expected.iter().rev() {
        assert_eq!(screen.lsn(), *lsn);
        screen.key(KeyCode::Up);
    }
    screen.key(KeyCode::End);
    assert_eq!(screen.lsn(), expected[expected.len() - 1]);
    screen.key(KeyCode::Home);
    assert_eq!(screen.lsn(), expected[0]);
}

#[test]
fn jumps_go_to_commits_positions_and_moments() {
    let (wal, runs) = wal();
    let records = records(&wal, &runs);
    let commits: Vec<Lsn> = records
        .iter()
        .filter(|(_, commits)| *commits)
        .map(|(lsn, _)| *lsn)
        .collect();
    let second = runs[1];
    let mut screen = Screen::new(&wal, runs);
    screen.key(KeyCode::Char('c'));
    screen.key(KeyCode::Char('c'));
    assert_eq!(screen.lsn(), commits[1]);
    screen.key(KeyCode::Char('C'));
    assert_eq!(screen.lsn(), commits[0]);
    // Into the hole: the next record behind it.
    let inside = Lsn::new(second.start.bytes() - 100);
    screen.key(KeyCode::Char('g'));
    screen.type_in(&inside.to_string());
    let behind = records.iter().find(|(lsn, _)| *lsn >= inside).unwrap().0;
    assert_eq!(screen.lsn(), behind);
    screen.key(KeyCode::Char('c'));
    let (lsn, time) = (screen.lsn(), screen.state.row().unwrap().time.unwrap());
    screen.key(KeyCode::Home);
    screen.key(KeyCode::Char('g'));
    screen.type_in(&time.to_string());
    assert_eq!(screen.lsn(), lsn);
    screen.key(KeyCode::Char('g'));
    screen.type_in("FFFF/0");
    assert!(screen.text().contains("the WAL ends before FFFF/0"));
}

#[test]
fn records_are_chosen_taken_apart_and_counted() {
    let (wal, runs) = wal();
    let mut screen = Screen::new(&wal, runs);
    screen.key(KeyCode::Char('/'));
    screen.type_in("rmgr=heap insert");
    let text = screen.text();
    assert!(text.contains("the WAL — rmgr=Heap insert"), "{text}");
    assert!(
        screen
            .state
            .rows
            .iter()
            .all(|row| row.operation.starts_with("INSERT"))
    );
    assert!(text.contains("block 0: 1663/"), "{text}");
    assert!(text.contains("00000  "), "{text}");
    let xid = screen.state.row().unwrap().xid;
    screen.key(KeyCode::Char('a'));
    screen.key(KeyCode::Char('x'));
    assert!(screen.state.rows.len() > 1);
    assert!(screen.state.rows.iter().all(|row| row.xid == xid));
    screen.key(KeyCode::Char('s'));
    let text = screen.text();
    assert!(text.contains("Heap/INSERT  "), "{text}");
    screen.key(KeyCode::Esc);
    screen.key(KeyCode::Char('/'));
    screen.type_in(" rmgr=nonsense");
    assert!(screen.text().contains("there is no resource manager"));
    screen.key(KeyCode::Char('?'));
    assert!(screen.text().contains("statistics of what is shown"));
    screen.key(KeyCode::Char('q'));
    assert!(!screen.state.done);
    screen.key(KeyCode::Char('q'));
    assert!(screen.state.done);
}
