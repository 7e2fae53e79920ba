//! Writing to standard output: whoever reads it may stop (`pgm-cli list-backup | head`), and then the program ends as tools
//! do, by SIGPIPE and without a word.

use std::fmt;
use std::io::{self, Write as _};
use std::process::exit;

/// Prints a line on standard output.
macro_rules! out {
    () => { $crate::output::stdout::write(format_args!("\n")) };
    ($format:literal $($rest:tt)*) => {
        $crate::output::stdout::write(format_args!("{}\n", format_args!($format $($rest)*)))
    };
}

/// Prints a text on standard output.
macro_rules! out_text {
    ($($text:tt)*) => { $crate::output::stdout::write(format_args!($($text)*)) };
}

pub(crate) use {out, out_text};

/// Writes `text`, or ends the program when that cannot be done.
pub(crate) fn write(text: fmt::Arguments<'_>) {
    let mut stdout = io::stdout().lock();
    let Err(error) = stdout.write_fmt(text) else {
        return;
    };
    if error.kind() == io::ErrorKind::BrokenPipe {
        let _ = signal_hook::low_level::emulate_default_handler(signal_hook::consts::SIGPIPE);
        // Where the signal is blocked: as a shell would report it.
        exit(128 + signal_hook::consts::SIGPIPE);
    }
    eprintln!("pgm-cli: error: cannot write to standard output: {error}");
    exit(1);
}
