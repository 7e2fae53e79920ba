//! Where a password comes from: the terminal, a file, the environment, a command, or chance. Never the command line.

use std::io::{BufRead as _, IsTerminal as _, Read as _};
use std::path::Path;

use pgm_proto::Secret;
use pgmd::config::MasterKeySource;
use pgmd::secrets::{
    PASSWORD_BYTES_MAX, PasswordLength, check_password, random_password, secret_from,
};

use crate::arguments::admin::PasswordArguments;
use crate::error::{CliError, Failure};

/// A password, and whether the user has seen it.
pub(super) struct NewPassword {
    pub(super) password: Secret,
    pub(super) origin: PasswordOrigin,
}

/// Whether the user knows a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PasswordOrigin {
    /// They gave it.
    Given,
    /// It was made up, and has to be shown.
    Generated,
}

/// Whether anything was said about where the password comes from.
pub(super) fn is_told(arguments: &PasswordArguments) -> bool {
    arguments.generate
        || arguments.password_file.is_some()
        || arguments.password_env.is_some()
        || arguments.password_command.is_some()
}

/// The password that the arguments lead to; `prompt` is what the terminal asks for.
pub(super) fn new_password(
    arguments: &PasswordArguments,
    length: Option<PasswordLength>,
    prompt: &str,
) -> Result<NewPassword, CliError> {
    if arguments.generate {
        return Ok(NewPassword {
            password: random_password(length.unwrap_or(PasswordLength::DEFAULT))?,
            origin: PasswordOrigin::Generated,
        });
    }
    let password = match source(arguments) {
        Some(MasterKeySource::File(path)) if path == Path::new("-") => first_line_of_input()?,
        Some(source) => secret_from(&source, "password")?,
        None => ask_twice(prompt)?,
    };
    // A file may have more than the password.
    let first = password.expose().lines().next().unwrap_or("");
    Ok(NewPassword {
        password: check_password(Secret::new(first))?,
        origin: PasswordOrigin::Given,
    })
}

fn source(arguments: &PasswordArguments) -> Option<MasterKeySource> {
    let file = arguments.password_file.clone().map(MasterKeySource::File);
    let environment = arguments.password_env.clone();
    let command = arguments.password_command.clone();
    file.or(environment.map(MasterKeySource::Environment))
        .or(command.map(MasterKeySource::Command))
}

fn first_line_of_input() -> Result<Secret, CliError> {
    let mut line = String::new();
    let input = std::io::stdin().lock();
    input
        .take(PASSWORD_BYTES_MAX as u64 + 2)
        .read_line(&mut line)
        .map_err(|error| CliError::new(Failure::Failed, error, None))?;
    Ok(Secret::new(line))
}

/// Asks the terminal, without showing what is typed.
pub(super) fn ask_twice(prompt: &str) -> Result<Secret, CliError> {
    if !std::io::stdin().is_terminal() {
        let hint = "say where it comes from: --password-file, --password-env, --password-command, or --generate";
        let text = format!("there is no terminal to ask for the {prompt}");
        return Err(CliError::new(Failure::Usage, text, Some(hint.into())));
    }
    let unreadable = |error| CliError::new(Failure::Failed, format!("cannot read: {error}"), None);
    let ask = |prompt: String| rpassword::prompt_password(prompt).map(Secret::new);
    let first = ask(format!("{prompt}: ")).map_err(unreadable)?;
    let second = ask(format!("{prompt} again: ")).map_err(unreadable)?;
    if first != second {
        let text = "the two are not the same";
        return Err(CliError::new(Failure::Usage, text, None));
    }
    Ok(first)
}
