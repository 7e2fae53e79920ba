//! Draws the state: the list above, the chosen record below, a line at either end.

use jiff::tz::Offset;
use pgm_wal::record::TransactionKind;
use pgm_wal::record::describe::resource_manager_name;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Paragraph};

use super::log::Row;
use super::state::{State, View};

const HELP: [&str; 24] = [
    "↑ ↓ PgUp PgDn   move (also k j, space)",
    "Home End        the beginning and the end of the WAL",
    "Tab, Enter      into the record's parts and bytes; Tab or Esc back",
    "",
    "/ or f          show only some records: words, and",
    "                  rmgr=Heap         of this resource manager",
    "                  rel=1663/5/16384  that refer to this relation; also DATABASE/FILE, FILE",
    "                  xid=745           of this transaction",
    "x m r           only the chosen record's transaction, resource manager, relation",
    "a               all records again",
    "",
    ": or g          go to a position (0/3000028) or a moment (2026-11-22 10:00:00+00)",
    "c C             the next, the previous commit",
    "s               statistics of what is shown, over the whole WAL",
    "",
    "Esc             stops what takes long",
    "q               leaves this page, or the program",
    "",
    "Commits are green, rollbacks red. The time is that of the last transaction that",
    "had ended; at the beginning of what was read it is not known.",
    "",
    "What is shown can be had as text or JSON by `pgm-cli wal info` with the same",
    "source; a position to restore to by `pgm-cli wal find`.",
    "",
];

const FAINT: Style = Style::new().fg(Color::DarkGray);
const BAR: Style = Style::new().add_modifier(Modifier::REVERSED);

/// Draws everything; gives how many rows the list, or the page in its place, has room for.
pub(super) fn draw(frame: &mut Frame<'_>, title: &str, state: &mut State<'_>) -> usize {
    let [head, middle, foot] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Fill(1),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    let query = state.query.to_string();
    let shown = if query.is_empty() {
        "all records"
    } else {
        &query
    };
    let line = format!(" {title} — {shown}");
    frame.render_widget(Paragraph::new(line).style(BAR), head);
    let page = match state.view {
        View::Help => draw_lines(frame, middle, HELP.iter().map(|line| Line::raw(*line))),
        View::Statistics => {
            let lines = state.statistics.iter().map(|line| Line::raw(line.as_str()));
            draw_lines(frame, middle, lines)
        }
        View::List | View::Detail => draw_records(frame, middle, state),
    };
    draw_foot(frame, foot, state);
    page
}

fn draw_lines<'a>(
    frame: &mut Frame<'_>,
    area: Rect,
    lines: impl Iterator<Item = Line<'a>>,
) -> usize {
    let height = usize::from(area.height);
    let lines: Vec<Line<'_>> = lines.take(height).collect();
    frame.render_widget(Paragraph::new(lines), area);
    height
}

fn draw_records(frame: &mut Frame<'_>, area: Rect, state: &mut State<'_>) -> usize {
    let [above, below] =
        Layout::vertical([Constraint::Percentage(60), Constraint::Percentage(40)]).areas(area);
    let height = usize::from(above.height);
    // The chosen row stays in sight, and so does the end behind the last one.
    let ends = state.end.is_some() && state.chosen + 1 == state.rows.len();
    let lowest = (state.chosen + 1 + usize::from(ends)).saturating_sub(height);
    state.top = state.top.clamp(lowest, state.chosen.max(lowest));
    let mut lines: Vec<Line<'_>> = Vec::with_capacity(height);
    for (index, row) in state.rows.iter().enumerate().skip(state.top).take(height) {
        let mut line = row_line(row);
        if index == state.chosen {
            line = line.patch_style(BAR);
        }
        lines.push(line);
    }
    if let Some(end) = state.end.as_ref().filter(|_| lines.len() < height) {
        let text = if end.is_empty() {
            "the WAL ends here".to_owned()
        } else {
            format!("the WAL ends here: {end}")
        };
        lines.push(Line::styled(text, FAINT));
    }
    frame.render_widget(Paragraph::new(lines), above);

    let focused = state.view == View::Detail;
    let border = if focused { Style::new() } else { FAINT };
    let frame_of = Block::new().borders(Borders::TOP).border_style(border);
    let inside = frame_of.inner(below);
    frame.render_widget(frame_of, below);
    let lines = state.detail.iter().skip(state.detail_top);
    let shown = draw_lines(frame, inside, lines.map(|line| Line::raw(line.as_str())));
    if focused { shown } else { height }
}

fn row_line(row: &Row) -> Line<'_> {
    let style = match row.ends {
        Some(TransactionKind::Commit) => Style::new().fg(Color::Green),
        Some(TransactionKind::Abort) => Style::new().fg(Color::Red),
        None => Style::new(),
    };
    let time = row.time.map_or_else(String::new, |time| {
        let civil = Offset::UTC.to_datetime(time);
        format!(
            "{} {:02}:{:02}:{:02}.{:03}",
            civil.date(),
            civil.hour(),
            civil.minute(),
            civil.second(),
            civil.millisecond()
        )
    });
    let operation = format!("{}/{}", resource_manager_name(row.manager), row.operation);
    Line::from(vec![
        Span::raw(format!("{:>17} ", row.place.lsn.to_string())),
        Span::styled(format!("{time:<23} "), FAINT),
        Span::raw(format!("{:>10} {:>6}  ", row.xid, row.length)),
        Span::styled(format!("{operation:<26} "), style),
        Span::raw(row.text.as_str()),
    ])
}

fn draw_foot(frame: &mut Frame<'_>, area: Rect, state: &State<'_>) {
    if let Some((prompt, text)) = &state.prompt {
        let line = format!("{}{text}▏", prompt.label());
        frame.render_widget(Paragraph::new(line), area);
        return;
    }
    let keys = match state.view {
        View::List => {
            "? help  / show only  g go to  c commit  x r m narrow  a all  s statistics  Tab record  q quit"
        }
        View::Detail => "↑ ↓ PgUp PgDn move  Tab or Esc back to the list",
        View::Statistics | View::Help => "Esc or q back to the list",
    };
    let line = if state.message.is_empty() {
        Line::styled(keys, FAINT)
    } else {
        Line::raw(state.message.as_str())
    };
    frame.render_widget(Paragraph::new(line), area);
}
