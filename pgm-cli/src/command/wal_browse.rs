//! `pgm-cli wal browse`: looks through WAL of any size on the screen.
//!
//! [`state`] is what is shown and what keys do, [`log`] reads, [`draw`] draws; here is the loop around them, and the
//! terminal, which is given back as it was, also after a signal.

mod detail;
mod draw;
mod log;
mod query;
mod state;
mod statistics;
#[cfg(test)]
mod tests;

use std::io::{self, IsTerminal as _};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyEventKind};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::Cx;
use super::wal_source::WalSource;
use crate::arguments::WalBrowseArguments;
use crate::error::{CliError, Failure};
use crate::relation_names::RelationLabels;
use log::Log;
use state::State;

/// How long a look for keys takes when there is nothing to do: so soon a signal is noticed.
const IDLE: Duration = Duration::from_millis(200);

pub(super) fn run(cx: &Cx, arguments: &WalBrowseArguments) -> Result<ExitCode, CliError> {
    if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        let hint = "`pgm-cli wal info` prints records as text or JSON".to_owned();
        let text = "wal browse needs a terminal";
        return Err(CliError::new(Failure::Usage, text, Some(hint)));
    }
    let wal = WalSource::open(cx, &arguments.source)?;
    let runs = wal.runs(&arguments.source);
    let title = match runs.as_slice() {
        [] => {
            let text = "there is no WAL in that range";
            return Err(CliError::new(Failure::NotFound, text, None));
        }
        runs => format!(
            "timeline {}, {} to {}{}",
            wal.history.timeline(),
            runs[0].start,
            runs[runs.len() - 1].end,
            if runs.len() > 1 { ", with holes" } else { "" }
        ),
    };
    let labels = RelationLabels::read(arguments.conninfo.as_deref())?;
    let mut state = State::new(Log::new(&wal, runs), labels);
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&stop)).map_err(|error| failed(&error))?;
    }
    let terminal = ratatui::try_init().map_err(|error| failed(&error))?;
    let shown = show(terminal, &title, &mut state, &stop);
    ratatui::restore();
    shown.map_err(|error| failed(&error))?;
    Ok(ExitCode::SUCCESS)
}

fn show(
    mut terminal: DefaultTerminal,
    title: &str,
    state: &mut State<'_>,
    stop: &AtomicBool,
) -> io::Result<()> {
    while !state.done && !stop.load(Ordering::Relaxed) {
        let mut page = 0;
        terminal.draw(|frame| page = draw::draw(frame, title, state))?;
        state.work();
        let wait = if state.is_busy() {
            Duration::ZERO
        } else {
            IDLE
        };
        if event::poll(wait)?
            && let Event::Key(key) = event::read()?
            && key.kind != KeyEventKind::Release
        {
            state.key(key, page);
        }
    }
    Ok(())
}

fn failed(error: &io::Error) -> CliError {
    let text = format!("cannot use the terminal: {error}");
    CliError::new(Failure::Failed, text, None)
}
