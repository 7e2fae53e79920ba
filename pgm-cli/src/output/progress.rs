//! Progress bars with rate and ETA, when standard error is a terminal and people are reading.

use std::io::IsTerminal as _;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::arguments::Format;

/// A bar that follows one operation through its phases.
#[derive(Debug)]
pub(crate) struct Bar {
    bar: ProgressBar,
    phase: String,
}

impl Bar {
    /// A bar; hidden when nobody would see it.
    pub(crate) fn new(format: Format) -> Self {
        let bar = ProgressBar::no_length();
        if format != Format::Text || !std::io::stderr().is_terminal() {
            bar.set_draw_target(ProgressDrawTarget::hidden());
        }
        bar.enable_steady_tick(Duration::from_millis(200));
        Self {
            bar,
            phase: String::new(),
        }
    }

    /// Shows how far the operation is.
    pub(crate) fn update(&mut self, phase: &str, done: u64, total: Option<u64>) {
        if self.phase != phase {
            phase.clone_into(&mut self.phase);
            self.bar.reset();
            self.bar.set_message(phase.to_owned());
        }
        let template = if total.is_some() {
            "{msg:<12} [{bar:30}] {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} ETA {eta}"
        } else {
            "{msg:<12} {spinner} {binary_bytes} {binary_bytes_per_sec} {elapsed}"
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            self.bar.set_style(style.progress_chars("=> "));
        }
        if let Some(total) = total {
            self.bar.set_length(total);
        }
        self.bar.set_position(done);
    }

    /// Takes the bar away.
    pub(crate) fn finish(self) {
        self.bar.finish_and_clear();
    }
}
