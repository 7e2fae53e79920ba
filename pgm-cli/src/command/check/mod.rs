//! `pgm-cli check`: every requirement of every server as ok, warning or failure, each with what mends it.
//!
//! Works without the daemon and changes nothing. `facts.rs` asks, `rules.rs` judges, this file prints. The exit
//! status is 1 when anything failed.

mod facts;
mod finding;
mod local;
mod rules;

use std::process::ExitCode;

use pgm_proto::{ConnInfo, Error, Host, Place, ServerName};
use pgmd::config::{Config, ServerConfig};
use pgmd::secrets::Passwords;
use serde::Serialize;

pub(super) use self::finding::{Finding, Outcome};
use super::Cx;
use crate::arguments::{CheckArguments, Format};
use crate::error::{CliError, Failure};
use crate::output::print_json;
use crate::output::stdout::out;

/// All findings.
#[derive(Debug, Serialize)]
struct Report {
    /// The worst of all.
    result: Outcome,
    /// What concerns this host.
    host: Vec<Finding>,
    /// What concerns each server.
    servers: Vec<ServerReport>,
}

/// The findings about one server.
#[derive(Debug, Serialize)]
struct ServerReport {
    server: ServerName,
    findings: Vec<Finding>,
}

pub(super) fn run(cx: &Cx, arguments: &CheckArguments) -> Result<ExitCode, CliError> {
    let config = cx.config()?;
    if let Some(name) = &arguments.server {
        config
            .server(name)
            .map_err(|error| CliError::from(error).with_failure(Failure::NotFound))?;
    }
    let passwords = Passwords::load(&config)?;
    let report = report(&config, &passwords, arguments.server.as_ref());
    match cx.format {
        Format::Json => print_json(&report),
        Format::Text => print_report(&report),
    }
    Ok(if report.result == Outcome::Failure {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

fn report(config: &Config, passwords: &Passwords, only: Option<&ServerName>) -> Report {
    let mut data_bytes = None;
    let mut servers = Vec::new();
    for (name, server) in &config.servers {
        if only.is_none_or(|only| only == name) {
            let findings = check_server(config, passwords, name, server, &mut data_bytes);
            servers.push(ServerReport {
                server: name.clone(),
                findings,
            });
        }
    }
    let host = local::judge(config, data_bytes);
    let all = servers
        .iter()
        .flat_map(|server| &server.findings)
        .chain(&host);
    let result = all
        .map(|finding| finding.outcome)
        .max()
        .unwrap_or(Outcome::Ok);
    Report {
        result,
        host,
        servers,
    }
}

fn check_server(
    config: &Config,
    passwords: &Passwords,
    name: &ServerName,
    server: &ServerConfig,
    data_bytes: &mut Option<u64>,
) -> Vec<Finding> {
    let conninfo = &passwords.complete(name, server.conninfo.clone());
    let application_name = conninfo.application_name().unwrap_or_default();
    let facts = match facts::gather(conninfo, &server.slot, application_name) {
        Ok(facts) => facts,
        Err(error) => return vec![unreachable(conninfo, &error)],
    };
    if let Some(bytes) = facts.sql.as_ref().and_then(|sql| sql.data_bytes) {
        *data_bytes = Some(data_bytes.unwrap_or(0) + bytes);
    }
    let wanted = rules::Wanted {
        slot: &server.slot,
        create_slot: server.create_slot,
        application_name,
        local: conninfo.hosts().iter().all(is_local),
    };
    let mut findings = vec![match &facts.replication_error {
        None => Finding::ok("connection", conninfo.redacted()),
        Some(error) => unreachable(conninfo, error),
    }];
    findings.extend(rules::judge(&facts, &wanted));
    findings.extend(local::identity(config, name, facts.identity.as_ref()));
    findings
}

fn unreachable(conninfo: &ConnInfo, error: &Error) -> Finding {
    let fix = error
        .hint()
        .unwrap_or_else(|| format!("try: psql '{} replication=true'", conninfo.redacted()));
    Finding::failure("connection", crate::error::chain(error), fix)
}

fn is_local(host: &Host) -> bool {
    match &host.place {
        Place::Unix(_) => true,
        Place::Tcp(name) => matches!(name.as_str(), "localhost" | "127.0.0.1" | "::1"),
    }
}

fn print_report(report: &Report) {
    for server in &report.servers {
        out!("{}", server.server);
        print_findings(&server.findings);
    }
    out!("this host");
    print_findings(&report.host);
    let count = |outcome| {
        let findings = report
            .servers
            .iter()
            .flat_map(|server| &server.findings)
            .chain(&report.host);
        findings
            .filter(|finding| finding.outcome == outcome)
            .count()
    };
    out!(
        "{} ok, {} warnings, {} failures",
        count(Outcome::Ok),
        count(Outcome::Warning),
        count(Outcome::Failure)
    );
}

fn print_findings(findings: &[Finding]) {
    for finding in findings {
        let mark = match finding.outcome {
            Outcome::Ok => "ok     ",
            Outcome::Warning => "WARNING",
            Outcome::Failure => "FAILURE",
        };
        out!("  {mark}  {:<26} {}", finding.requirement, finding.detail);
        if let Some(fix) = &finding.fix {
            out!("           {:<26} fix: {fix}", "");
        }
    }
}
