//! What is shown, and what keys do to it. No terminal: keys go in, what to draw can be asked for.
//!
//! The list is a window on the WAL: some rows before and behind the chosen one. Near its ends more rows are read, and those
//! at the other end are let go.

use jiff::Timestamp;
use pgm_proto::Lsn;
use pgm_wal::record::{Block, RecordError, RelationFile};
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::detail;
use super::log::{Backward, Forward, From, Held, Log, Place, Portion, Reached, Row};
use super::query::Query;
use super::statistics::Counting;
use crate::error::chain;
use crate::relation_names::RelationLabels;

/// How many rows are read at once, and kept.
const ROWS_READ: usize = 300;
const ROWS_MAX: usize = 1500;
/// How near the chosen row may come to the window's ends.
const ROWS_NEAR: usize = 100;

/// What takes up the lower part of the screen, or all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum View {
    List,
    /// The record's parts and bytes have the keys that move.
    Detail,
    Statistics,
    Help,
}

/// What is being typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Prompt {
    Query,
    Place,
}

impl Prompt {
    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::Query => "show only (rmgr=NAME rel=FILE xid=N words): ",
            Self::Place => "go to (LSN or time): ",
        }
    }
}

/// Something that takes more than one portion.
enum Task<'a> {
    /// A new window; the time before it is known or not.
    Open(Forward<'a>),
    /// A new window that ends here.
    OpenBefore(Backward<'a>),
    Below(Forward<'a>),
    Above(Backward<'a>),
    /// Looks for the last commit before, and opens a window there.
    CommitBefore(Backward<'a>),
    Count(Box<Counting<'a>>),
}

/// The viewer.
pub(super) struct State<'a> {
    pub(super) log: Log<'a>,
    pub(super) labels: RelationLabels,
    pub(super) query: Query,
    pub(super) rows: Vec<Row>,
    pub(super) chosen: usize,
    /// The first row that is shown; drawing moves it as far as the chosen row asks for.
    pub(super) top: usize,
    at_beginning: bool,
    /// Why there is no row behind the last one, once that is known.
    pub(super) end: Option<String>,
    pub(super) view: View,
    pub(super) prompt: Option<(Prompt, String)>,
    pub(super) message: String,
    pub(super) detail: Vec<String>,
    detail_of: Option<Place>,
    held: Held<'a>,
    pub(super) detail_top: usize,
    pub(super) statistics: Vec<String>,
    task: Option<Task<'a>>,
    pub(super) done: bool,
}

impl<'a> State<'a> {
    pub(super) fn new(log: Log<'a>, labels: RelationLabels) -> Self {
        let mut state = Self {
            log,
            labels,
            query: Query::default(),
            rows: Vec::new(),
            chosen: 0,
            top: 0,
            at_beginning: true,
            end: None,
            view: View::List,
            prompt: None,
            message: String::new(),
            detail: Vec::new(),
            detail_of: None,
            held: None,
            detail_top: 0,
            statistics: Vec::new(),
            task: None,
            done: false,
        };
        if let Some(first) = state.log.first() {
            state.open(first, From::Here);
        }
        state
    }

    pub(super) fn row(&self) -> Option<&Row> {
        self.rows.get(self.chosen)
    }

    /// Whether something is going on, so that [`Self::work`] is to be called.
    pub(super) const fn is_busy(&self) -> bool {
        self.task.is_some()
    }

    fn open(&mut self, at: Place, from: From) {
        self.task = Some(Task::Open(Forward::new(at, from, ROWS_READ, None)));
    }

    /// Goes on with what is going on.
    pub(super) fn work(&mut self) {
        let Some(mut task) = self.task.take() else {
            return;
        };
        let portion = match &mut task {
            Task::Open(forward) | Task::Below(forward) => forward.step(&self.log, &self.query),
            Task::OpenBefore(backward) | Task::Above(backward) => {
                backward.step(&self.log, &self.query)
            }
            Task::CommitBefore(backward) => backward.step(&self.log, &self.query),
            Task::Count(counting) => {
                match counting.step(&self.log, &self.query) {
                    Ok(None) => {
                        self.message = format!("counting: {} …", counting.at());
                        self.task = Some(task);
                    }
                    Ok(Some(lines)) => {
                        self.statistics = lines;
                        self.message.clear();
                    }
                    Err(error) => self.fail(&error),
                }
                return;
            }
        };
        match portion {
            Ok(Portion::More(lsn)) => {
                self.message = format!("reading: {lsn} …  (Esc stops)");
                self.task = Some(task);
            }
            Ok(Portion::Rows { rows, reached }) => {
                self.message.clear();
                self.take(&task, rows, reached);
            }
            Err(error) => self.fail(&error),
        }
    }

    fn fail(&mut self, error: &RecordError) {
        self.message = chain(error);
        // What is behind damage cannot be reached from here.
        self.end.get_or_insert_with(|| self.message.clone());
        self.at_beginning |= self.rows.is_empty();
    }

    fn take(&mut self, task: &Task<'a>, mut rows: Vec<Row>, reached: Reached) {
        match task {
            Task::Open(_) if rows.is_empty() && !self.rows.is_empty() => {
                "there is nothing behind".clone_into(&mut self.message);
            }
            Task::Open(_) => {
                self.rows = rows;
                (self.chosen, self.top) = (0, 0);
                self.at_beginning = false;
                self.end = ended(reached);
            }
            Task::OpenBefore(_) => {
                self.chosen = rows.len().saturating_sub(1);
                self.top = self.chosen;
                self.rows = rows;
                self.at_beginning = reached != Reached::Enough;
                self.end = None;
            }
            Task::Below(_) => {
                self.rows.append(&mut rows);
                self.end = ended(reached);
                let surplus = self.rows.len().saturating_sub(ROWS_MAX);
                if surplus > 0 {
                    self.rows.drain(..surplus);
                    self.chosen = self.chosen.saturating_sub(surplus);
                    self.top = self.top.saturating_sub(surplus);
                    self.at_beginning = false;
                }
            }
            Task::Above(_) => {
                self.at_beginning = reached != Reached::Enough;
                self.chosen += rows.len();
                self.top += rows.len();
                rows.append(&mut self.rows);
                if rows.len() > ROWS_MAX {
                    rows.truncate(ROWS_MAX);
                    self.end = None;
                }
                self.rows = rows;
            }
            Task::CommitBefore(_) => match rows.last() {
                Some(row) => self.open(row.place, From::Here),
                None => "there is no commit before".clone_into(&mut self.message),
            },
            Task::Count(_) => {}
        }
        self.refresh();
    }

    /// Reads more where the window ends near the chosen row, and the chosen record's parts.
    fn refresh(&mut self) {
        if self.task.is_none() {
            let near_end = self.chosen + ROWS_NEAR >= self.rows.len();
            if let Some(last) = self.rows.last().filter(|_| near_end && self.end.is_none()) {
                let at = Place {
                    run: last.place.run,
                    lsn: last.next,
                };
                let forward = Forward::new(at, From::Here, ROWS_READ, last.time);
                self.task = Some(Task::Below(forward));
            } else if let Some(first) = self
                .rows
                .first()
                .filter(|_| self.chosen < ROWS_NEAR && !self.at_beginning)
            {
                let backward = Backward::new(first.place, From::Here, ROWS_READ);
                self.task = Some(Task::Above(backward));
            }
        }
        let place = self.row().map(|row| row.place);
        if place != self.detail_of {
            self.detail_of = place;
            self.detail_top = 0;
            self.detail = match place {
                Some(place) => self.read_detail(place),
                None => Vec::new(),
            };
        }
    }

    fn read_detail(&mut self, place: Place) -> Vec<String> {
        let labels = &self.labels;
        let name = |block: &Block<'_>| {
            let RelationFile {
                database, number, ..
            } = block.relation;
            let name = labels.name(database, number);
            name.map_or_else(String::new, |name| format!(" ({name})"))
        };
        match self
            .log
            .with_record(&mut self.held, place, |record| detail::lines(record, &name))
        {
            Ok(lines) => lines.unwrap_or_default(),
            Err(error) => vec![chain(&error)],
        }
    }

    /// Takes a key; `page` is how many rows are shown.
    pub(super) fn key(&mut self, key: KeyEvent, page: usize) {
        if key.modifiers.contains(KeyModifiers::CONTROL) && key.code == KeyCode::Char('c') {
            self.done = true;
            return;
        }
        if let Some((prompt, text)) = self.prompt.take() {
            self.type_key(prompt, text, key.code);
            return;
        }
        match (self.view, key.code) {
            (View::List, KeyCode::Esc) if self.is_busy() => {
                self.task = None;
                "stopped".clone_into(&mut self.message);
            }
            (View::List, KeyCode::Char('q')) => self.done = true,
            (_, KeyCode::Esc | KeyCode::Char('q')) => self.leave(),
            (_, KeyCode::Char('?')) => self.view = View::Help,
            (View::Detail, KeyCode::Tab) => self.view = View::List,
            (View::List, KeyCode::Tab | KeyCode::Enter) => self.view = View::Detail,
            (View::List, code) => self.list_key(code, page),
            (View::Detail, code) => {
                let last = self.detail.len().saturating_sub(1);
                self.detail_top = moved(self.detail_top, code, page, last);
            }
            (View::Statistics | View::Help, _) => {}
        }
    }

    /// Back to the list.
    fn leave(&mut self) {
        if let Some(Task::Count(_)) = self.task {
            self.task = None;
            self.message.clear();
        }
        self.view = View::List;
    }

    fn list_key(&mut self, code: KeyCode, page: usize) {
        match code {
            KeyCode::Char('/' | 'f') => {
                self.prompt = Some((Prompt::Query, self.query.to_string()));
            }
            KeyCode::Char(':' | 'g') => self.prompt = Some((Prompt::Place, String::new())),
            KeyCode::Char('s') => {
                self.view = View::Statistics;
                self.statistics.clear();
                self.task = Some(Task::Count(Box::new(Counting::new())));
            }
            KeyCode::Char('x') => self.narrow(|query, row| query.xids = vec![row.xid]),
            KeyCode::Char('m') => self.narrow(|query, row| query.managers = vec![row.manager]),
            KeyCode::Char('r') => self.narrow(|query, row| {
                query.relation = row.relation.map(crate::arguments::RelationFilter::from);
            }),
            KeyCode::Char('a') => self.show(Query::default()),
            KeyCode::Char('c') => {
                if let Some((at, time)) = self.row().map(|row| {
                    let run = row.place.run;
                    (Place { run, lsn: row.next }, row.time)
                }) {
                    let forward = Forward::new(at, From::Commit, ROWS_READ, time);
                    self.task = Some(Task::Open(forward));
                }
            }
            KeyCode::Char('C') => {
                if let Some(row) = self.row() {
                    let backward = Backward::new(row.place, From::Commit, 1);
                    self.task = Some(Task::CommitBefore(backward));
                }
            }
            KeyCode::Home => {
                if let Some(first) = self.log.first() {
                    self.open(first, From::Here);
                }
            }
            KeyCode::End | KeyCode::Char('G') => {
                if let Some(end) = self.log.end() {
                    let backward = Backward::new(end, From::Here, ROWS_READ);
                    self.task = Some(Task::OpenBefore(backward));
                }
            }
            code => {
                let last = self.rows.len().saturating_sub(1);
                self.chosen = moved(self.chosen, code, page, last);
                self.refresh();
            }
        }
    }

    fn narrow(&mut self, narrow: impl FnOnce(&mut Query, &Row)) {
        let mut query = self.query.clone();
        if let Some(row) = self.row() {
            narrow(&mut query, row);
            self.show(query);
        }
    }

    /// Shows what `query` lets through, from the chosen record on.
    fn show(&mut self, query: Query) {
        let at = self.row().map(|row| row.place).or(self.log.first());
        self.query = query;
        self.rows.clear();
        if let Some(at) = at {
            self.open(at, From::Here);
        }
    }

    fn type_key(&mut self, prompt: Prompt, mut text: String, code: KeyCode) {
        match code {
            KeyCode::Esc => return,
            KeyCode::Enter => return self.typed(prompt, &text),
            KeyCode::Backspace => {
                text.pop();
            }
            KeyCode::Char(character) => text.push(character),
            _ => {}
        }
        self.prompt = Some((prompt, text));
    }

    fn typed(&mut self, prompt: Prompt, text: &str) {
        match prompt {
            Prompt::Query => match Query::parse(text) {
                Ok(query) => self.show(query),
                Err(error) => self.message = error,
            },
            Prompt::Place => self.go_to(text.trim()),
        }
    }

    fn go_to(&mut self, text: &str) {
        if let Ok(lsn) = text.parse::<Lsn>() {
            match self.log.place(lsn) {
                Some(place) => self.open(place, From::Here),
                None => self.message = format!("the WAL ends before {lsn}"),
            }
            return;
        }
        let time: Result<Timestamp, String> = crate::arguments::parse_time(text);
        match (time, self.log.first()) {
            (Ok(time), Some(first)) => self.open(first, From::Time(time)),
            (Err(error), _) => self.message = error,
            (Ok(_), None) => {}
        }
    }
}

fn ended(reached: Reached) -> Option<String> {
    match reached {
        Reached::Enough => None,
        Reached::End(why) => Some(why),
    }
}

/// Where a key that moves leads to.
fn moved(from: usize, code: KeyCode, page: usize, last: usize) -> usize {
    let to = match code {
        KeyCode::Down | KeyCode::Char('j') => from + 1,
        KeyCode::Up | KeyCode::Char('k') => from.saturating_sub(1),
        KeyCode::PageDown | KeyCode::Char(' ') => from + page,
        KeyCode::PageUp => from.saturating_sub(page),
        KeyCode::Home => 0,
        KeyCode::End => last,
        _ => from,
    };
    to.min(last)
}
