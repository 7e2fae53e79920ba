//! One run of a hook: its process group, its deadline, and what it prints.

use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;
use tracing::{info, warn};

use super::super::child::describe;
use super::facts::Facts;
use crate::config::HookCommand;

/// How long a hook has from SIGTERM to SIGKILL.
const TERM_PATIENCE: Duration = Duration::from_secs(5);
/// How long is waited for the rest of the output: a process that it left in the background may keep the pipe for ever.
const OUTPUT_PATIENCE: Duration = Duration::from_secs(1);
/// How many bytes of one hook's output go into the log.
const OUTPUT_BYTES_MAX: usize = 256 << 10;
/// A longer line is cut into several.
const LINE_BYTES_MAX: usize = 4096;
/// What a hook keeps of pgmd's environment: no secret has such a name.
const KEPT_VARIABLES: [&str; 9] = [
    "PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "TZ", "TMPDIR",
];

/// How a hook ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum End {
    /// With status 0.
    Success,
    /// Somebody cancelled.
    Cancelled,
    /// Otherwise; how, for a sentence that begins with its name.
    Failure(String),
}

/// Runs `command` until it ends, `timeout` has passed, or `cancelled` is done. `label` begins each line in the log.
pub(super) async fn run(
    label: &str,
    command: &HookCommand,
    facts: &Facts,
    timeout: Duration,
    cancelled: impl Future<Output = ()>,
) -> End {
    let mut child = match prepared(command, facts).spawn() {
        Ok(child) => child,
        Err(error) => return End::Failure(format!("cannot be started: {error}")),
    };
    let group = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
    let outputs = [
        child.stdout.take().map(|pipe| listen(label, pipe)),
        child.stderr.take().map(|pipe| listen(label, pipe)),
    ];
    let end = tokio::select! {
        status = child.wait() => of_status(status),
        () = tokio::time::sleep(timeout) => {
            stop(&mut child, group).await;
            End::Failure(format!("did not end within {timeout:?} and was ended"))
        }
        () = cancelled => {
            stop(&mut child, group).await;
            End::Cancelled
        }
    };
    for mut output in outputs.into_iter().flatten() {
        if tokio::time::timeout(OUTPUT_PATIENCE, &mut output)
            .await
            .is_err()
        {
            output.abort();
        }
    }
    end
}

fn prepared(command: &HookCommand, facts: &Facts) -> Command {
    let mut prepared = match command {
        HookCommand::Words(words) => {
            // A checked command has at least its program.
            let mut prepared = Command::new(words.first().map_or("", String::as_str));
            prepared.args(words.iter().skip(1));
            prepared
        }
        HookCommand::Shell(text) => {
            let mut prepared = Command::new("sh");
            prepared.arg("-c").arg(text);
            prepared
        }
    };
    prepared.env_clear();
    for name in KEPT_VARIABLES {
        if let Some(value) = std::env::var_os(name) {
            prepared.env(name, value);
        }
    }
    prepared.envs(facts.iter());
    prepared
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    prepared
}

fn of_status(status: std::io::Result<ExitStatus>) -> End {
    match status {
        Ok(status) if status.success() => End::Success,
        Ok(status) => End::Failure(describe(status)),
        Err(error) => End::Failure(format!("could not be waited for: {error}")),
    }
}

/// Ends the hook and everything that it started.
async fn stop(child: &mut Child, group: Option<Pid>) {
    let signal = |signal| group.map(|group| kill_process_group(group, signal));
    signal(Signal::TERM);
    let _ = tokio::time::timeout(TERM_PATIENCE, child.wait()).await;
    // Also those that ignored it, or outlived the first process.
    signal(Signal::KILL);
    let _ = child.wait().await;
}

/// Logs what comes out of `pipe`, as far as there is room.
fn listen(label: &str, mut pipe: impl AsyncRead + Unpin + Send + 'static) -> JoinHandle<()> {
    let label = label.to_owned();
    tokio::spawn(async move {
        let mut line = Vec::new();
        let mut left = OUTPUT_BYTES_MAX;
        let mut buffer = [0; LINE_BYTES_MAX];
        // Read to the end in any case: a full pipe would stop the hook.
        while let Ok(read @ 1..) = pipe.read(&mut buffer).await {
            if left == 0 {
                continue;
            }
            let taken = read.min(left);
            left -= taken;
            for byte in &buffer[..taken] {
                if *byte == b'\n' || line.len() == LINE_BYTES_MAX {
                    say(&label, &mut line);
                }
                if *byte != b'\n' {
                    line.push(*byte);
                }
            }
            if left == 0 {
                say(&label, &mut line);
                warn!("{label}: it prints so much that the rest is not logged");
            }
        }
        if !line.is_empty() {
            say(&label, &mut line);
        }
    })
}

fn say(label: &str, line: &mut Vec<u8>) {
    info!("{label}: {}", String::from_utf8_lossy(line));
    line.clear();
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::{Side, command};
    use super::*;
    use crate::config::{Config, LogLevel};
    use crate::worker::Description;

    fn facts() -> Facts {
        let description = Description {
            server: "prod".parse().unwrap(),
            log_level: LogLevel::Info,
            slot: 0,
            repositories: vec![crate::place::RepositoryTarget {
                place: crate::place::RepositoryPlace::local("/r"),
                compression: pgm_storage::Compression::ZSTD,
            }],
            spool: "/s".into(),
            title: crate::worker::ProcessTitle::Fixed,
            priority: crate::config::JobPriority::Normal,
            task: crate::worker::Task::Restore {
                options: pgm_mgmt::RestoreOptions {
                    server: "prod".parse().unwrap(),
                    backup: pgm_mgmt::BackupChoice::Newest,
                    directory: "/new".to_owned(),
                    delta: false,
                    target: pgm_mgmt::RestoreTarget::default(),
                    tablespaces: Vec::new(),
                    plan_only: false,
                    restore_program: None,
                },
            },
        };
        Facts::before("before_restore", pgm_mgmt::JobId::new(7), &description)
    }

    fn end_of(command: &str, timeout: Duration) -> End {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let command = HookCommand::Shell(command.to_owned());
        runtime.block_on(async {
            run("hook", &command, &facts(), timeout, std::future::pending()).await
        })
    }

    const LONG: Duration = Duration::from_mins(1);

    #[test]
    fn a_hook_is_told_the_facts_and_nothing_else_of_ours() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("environment");
        let end = end_of(&format!("env > {}", path.display()), LONG);
        assert_eq!(end, End::Success);
        let text = std::fs::read_to_string(&path).unwrap();
        for fact in [
            "PGM_EVENT=before_restore",
            "PGM_JOB=7",
            "PGM_SERVER=prod",
            "PGM_DIRECTORY=/new",
        ] {
            assert!(text.lines().any(|line| line == fact), "{fact}: {text}");
        }
        // Cargo and nextest set many variables for this test.
        assert!(
            !text.contains("CARGO") && !text.contains("NEXTEST"),
            "{text}"
        );
    }

    #[test]
    fn how_it_failed_is_told() {
        assert_eq!(
            end_of("exit 3", LONG),
            End::Failure("ended with status 3".to_owned())
        );
        assert_eq!(
            end_of("kill -9 $$", LONG),
            End::Failure("was ended by signal 9".to_owned())
        );
        assert!(matches!(end_of("/no/such/program", LONG), End::Failure(_)));
    }

    #[test]
    fn a_hook_past_its_deadline_ends_with_its_whole_group() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pid");
        let command = format!("sleep 1000 & echo $! > {}; wait", path.display());
        let end = end_of(&command, Duration::from_millis(500));
        assert!(matches!(end, End::Failure(_)), "{end:?}");
        let pid = std::fs::read_to_string(&path).unwrap();
        let gone = || {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim()));
            stat.map_or(true, |stat| stat.contains(") Z"))
        };
        let deadline = std::time::Instant::now() + LONG;
        while !gone() {
            assert!(
                std::time::Instant::now() < deadline,
                "what it started lives"
            );
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_process_left_in_the_background_does_not_hold_the_job_up_and_much_output_does_not_block() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pid");
        let command = format!(
            "head -c 2000000 /dev/zero; sleep 1000 & echo $! > {}",
            path.display()
        );
        assert_eq!(end_of(&command, LONG), End::Success);
        let pid = std::fs::read_to_string(&path).unwrap();
        let pid = Pid::from_raw(pid.trim().parse().unwrap()).unwrap();
        let _ = rustix::process::kill_process(pid, Signal::KILL);
    }

    #[test]
    fn every_kind_of_job_that_has_hooks_finds_them() {
        let text = r#"(servers: {}, hooks: (before_backup: "a", after_delete: ["b", "c"]))"#;
        let config = Config::parse(Path::new("/x/pgmd.ron"), text).unwrap();
        assert!(command(&config.hooks, Side::Before, "backup").is_some());
        assert!(command(&config.hooks, Side::After, "delete").is_some());
        assert!(command(&config.hooks, Side::After, "backup").is_none());
        assert!(command(&config.hooks, Side::Before, "verify").is_none());
    }
}
