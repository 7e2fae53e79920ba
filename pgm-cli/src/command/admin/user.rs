//! `pgm-cli admin user`: passwords of PostgreSQL's users in the vault, and the users of remote management.

use std::process::ExitCode;

use pgm_mgmt::Role;
use pgm_proto::{ScramIterations, ScramVerifier, Secret, ServerName};
use pgmd::audit::Record;
use pgmd::config::Config;
use pgmd::secrets::{Admins, UserName, Vault, master_key};
use serde::Serialize;

use super::super::Cx;
use super::password::{NewPassword, PasswordOrigin, is_told, new_password};
use super::{note, record, tell_daemon};
use crate::arguments::Format;
use crate::arguments::admin::{
    KindArguments, RoleArgument, UserAddArguments, UserCommand, UserDelArguments, UserEditArguments,
};
use crate::error::{CliError, Failure};
use crate::output::stdout::{out, out_text};
use crate::output::{Table, print_json};

/// What was done; the password only when it was made up here.
#[derive(Debug, Serialize)]
struct Report {
    done: &'static str,
    name: UserName,
    kind: &'static str,
    server: Option<ServerName>,
    role: Option<Role>,
    #[serde(skip_serializing_if = "Option::is_none")]
    password: Option<String>,
}

/// All users.
#[derive(Debug, Serialize)]
struct Users {
    users: Vec<User>,
}

#[derive(Debug, Serialize)]
struct User {
    name: UserName,
    kind: &'static str,
    server: Option<ServerName>,
    role: Option<Role>,
    changed: String,
}

pub(super) fn run(cx: &Cx, command: UserCommand) -> Result<ExitCode, CliError> {
    let config = cx.config()?;
    let report = match command {
        UserCommand::Ls => {
            list(cx, &config)?;
            return Ok(ExitCode::SUCCESS);
        }
        UserCommand::Add(arguments) => add(&config, arguments)?,
        UserCommand::Edit(arguments) => edit(&config, arguments)?,
        UserCommand::Del(arguments) => del(&config, arguments)?,
    };
    note(&config, noted(&report));
    tell_daemon(&config);
    print(cx, &report);
    Ok(ExitCode::SUCCESS)
}

fn noted(report: &Report) -> Record {
    let action = match report.done {
        ADDED => "admin user add",
        CHANGED => "admin user edit",
        _ => "admin user del",
    };
    let record = record(action)
        .server(report.server.as_ref())
        .fact("name", &report.name)
        .fact("kind", report.kind);
    match report.role {
        Some(role) => record.fact("role", role),
        None => record,
    }
}

fn add(config: &Config, arguments: UserAddArguments) -> Result<Report, CliError> {
    let UserAddArguments {
        name,
        kind,
        server,
        role,
        password,
        length,
    } = arguments;
    known_server(config, server.as_ref())?;
    let role = (!kind.postgres).then(|| role.map_or(Role::Admin, role_of));
    // Before anybody is asked for a password.
    let key = kind
        .postgres
        .then(|| master_key(&config.master_key))
        .transpose()?;
    let made = new_password(&password, length, &prompt(&name))?;
    if let Some(key) = &key {
        Vault::edit(&config.vault, |vault| {
            vault.add(key, &name, server.as_ref(), &made.password)
        })?;
    } else {
        let verifier = verifier(config, &made.password);
        let role = role.unwrap_or(Role::Admin);
        Admins::edit(&config.admins, |admins| admins.add(&name, role, verifier))?;
    }
    Ok(Report {
        done: ADDED,
        name,
        kind: word(&kind),
        server,
        role,
        password: shown(&made),
    })
}

fn edit(config: &Config, arguments: UserEditArguments) -> Result<Report, CliError> {
    let UserEditArguments {
        name,
        kind,
        server,
        role,
        password,
        length,
    } = arguments;
    let role = role.map(role_of);
    let key = kind
        .postgres
        .then(|| master_key(&config.master_key))
        .transpose()?;
    let made = if role.is_some() && !is_told(&password) {
        None
    } else {
        Some(new_password(&password, length, &prompt(&name))?)
    };
    if let (Some(key), Some(made)) = (&key, &made) {
        Vault::edit(&config.vault, |vault| {
            vault.replace(key, &name, server.as_ref(), &made.password)
        })?;
    } else {
        let verifier = made.as_ref().map(|made| verifier(config, &made.password));
        Admins::edit(&config.admins, |admins| {
            let admin = admins.change(&name)?;
            admin.role = role.unwrap_or(admin.role);
            if let Some(verifier) = verifier {
                admin.verifier = verifier;
            }
            Ok(())
        })?;
    }
    Ok(Report {
        done: CHANGED,
        name,
        kind: word(&kind),
        server,
        role,
        password: made.as_ref().and_then(shown),
    })
}

fn del(config: &Config, arguments: UserDelArguments) -> Result<Report, CliError> {
    let UserDelArguments { name, kind, server } = arguments;
    if kind.postgres {
        Vault::edit(&config.vault, |vault| vault.remove(&name, server.as_ref()))?;
    } else {
        Admins::edit(&config.admins, |admins| admins.remove(&name))?;
    }
    Ok(Report {
        done: REMOVED,
        name,
        kind: word(&kind),
        server,
        role: None,
        password: None,
    })
}

fn list(cx: &Cx, config: &Config) -> Result<(), CliError> {
    let (vault, admins) = (Vault::load(&config.vault)?, Admins::load(&config.admins)?);
    let passwords = vault.entries().iter().map(|entry| User {
        name: entry.user.clone(),
        kind: POSTGRES,
        server: entry.server.clone(),
        role: None,
        changed: entry.changed.clone(),
    });
    let admins = admins.iter().map(|(name, admin)| User {
        name: name.clone(),
        kind: ADMIN,
        server: None,
        role: Some(admin.role),
        changed: admin.changed.clone(),
    });
    let users: Vec<User> = passwords.chain(admins).collect();
    if cx.format == Format::Json {
        print_json(&Users { users });
        return Ok(());
    }
    if users.is_empty() {
        out!("there are no users");
        return Ok(());
    }
    let mut table = Table::new(["Name", "Kind", "Server", "Role", "Changed"]);
    for user in users {
        table.row([
            user.name.to_string(),
            user.kind.to_owned(),
            user.server
                .map(|server| server.to_string())
                .unwrap_or_default(),
            user.role.map(|role| role.to_string()).unwrap_or_default(),
            user.changed,
        ]);
    }
    out_text!("{table}");
    Ok(())
}

fn print(cx: &Cx, report: &Report) {
    if cx.format == Format::Json {
        return print_json(report);
    }
    let server = report.server.as_ref();
    let server = server.map(|server| format!(" for server {server}"));
    let role = report.role.map(|role| format!(", role {role}"));
    out!(
        "{} {} user {}{}{}",
        report.done,
        report.kind,
        report.name,
        server.unwrap_or_default(),
        role.unwrap_or_default()
    );
    if let Some(password) = &report.password {
        out!("password: {password}");
    }
}

const ADDED: &str = "added";
const CHANGED: &str = "changed";
const REMOVED: &str = "removed";
const POSTGRES: &str = "postgres";
const ADMIN: &str = "admin";

fn word(kind: &KindArguments) -> &'static str {
    if kind.postgres { POSTGRES } else { ADMIN }
}

fn role_of(role: RoleArgument) -> Role {
    match role {
        RoleArgument::Admin => Role::Admin,
        RoleArgument::ReadOnly => Role::ReadOnly,
    }
}

fn prompt(name: &UserName) -> String {
    format!("password of {name}")
}

/// A password that nobody knows yet has to be shown.
fn shown(made: &NewPassword) -> Option<String> {
    (made.origin == PasswordOrigin::Generated).then(|| made.password.expose().to_owned())
}

fn verifier(config: &Config, password: &Secret) -> ScramVerifier {
    let iterations = config.management.as_ref();
    let iterations = iterations.and_then(|config| ScramIterations::new(config.scram_iterations));
    ScramVerifier::from_password(password, iterations.unwrap_or_default())
}

/// A password for a server that does not exist would never be used.
fn known_server(config: &Config, server: Option<&ServerName>) -> Result<(), CliError> {
    match server.map(|server| config.server(server)) {
        Some(Err(error)) => Err(CliError::from(error).with_failure(Failure::NotFound)),
        Some(Ok(_)) | None => Ok(()),
    }
}
