//! A command that prints a secret: the master key's or a password's. Blocks until it has ended.
//!
//! Its output is kept out of every message, and so is what it complains about, which may repeat the secret.

use std::io::Read as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use zeroize::Zeroizing;

/// How long it may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// No secret is longer.
const OUTPUT_BYTES_MAX: u64 = 64 << 10;

/// What `command` prints, run by `sh -c`; else how it failed, for a sentence that begins with its name.
pub(crate) fn run(command: &str) -> Result<Zeroizing<String>, String> {
    run_within(command, PATIENCE)
}

fn run_within(command: &str, patience: Duration) -> Result<Zeroizing<String>, String> {
    let mut child = Command::new("sh")
        .arg("-c")
        .arg(command)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .map_err(|error| format!("cannot be started: {error}"))?;
    let mut output = child.stdout.take().ok_or("has no output")?;
    let (say, heard) = mpsc::channel();
    // Its own thread, because a command that hangs would hold up a read for ever.
    std::thread::spawn(move || {
        let mut text = Zeroizing::new(Vec::new());
        let read = (&mut output).take(OUTPUT_BYTES_MAX).read_to_end(&mut text);
        let _ = say.send(read.map(|_| text));
    });
    let text = match heard.recv_timeout(patience) {
        Ok(Ok(text)) => text,
        Ok(Err(error)) => return Err(give_up(&mut child, format!("cannot be read: {error}"))),
        Err(_) => {
            let seconds = patience.as_secs();
            return Err(give_up(
                &mut child,
                format!("did not end within {seconds} s"),
            ));
        }
    };
    let status = child
        .wait()
        .map_err(|error| format!("could not be waited for: {error}"))?;
    if !status.success() {
        return Err(super::child::describe(status));
    }
    let text = std::str::from_utf8(&text).map_err(|_| "printed something that is not UTF-8")?;
    Ok(Zeroizing::new(text.to_owned()))
}

/// Ends the command with everything that it started.
fn give_up(child: &mut Child, how: String) -> String {
    if let Some(group) = Pid::from_raw(child.id().cast_signed()) {
        let _ = kill_process_group(group, Signal::KILL);
    }
    let _ = child.wait();
    how
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_prints_is_the_secret_and_how_it_fails_is_told_without_it() {
        assert_eq!(run("printf hunter2").unwrap().as_str(), "hunter2");
        assert_eq!(
            run("echo hunter2; exit 3").unwrap_err(),
            "ended with status 3"
        );
        assert_eq!(
            run("echo hunter2; kill -9 $$").unwrap_err(),
            "was ended by signal 9"
        );
        assert!(run("printf '\\377'").is_err());
    }

    #[test]
    fn a_command_that_hangs_is_ended() {
        let error = run_within("sleep 1000 & sleep 1000", Duration::from_millis(50)).unwrap_err();
        assert!(error.contains("did not end"), "{error}");
    }
}
