//! Finds the daemon's directory and configuration.
//!
//! In this order: `--config`, `--directory` (also from PGM_CONFIG and PGM_DIRECTORY), the working directory when it
//! holds a `pgmd.ron`, `/etc/pgm`.

use std::path::{Path, PathBuf};

use pgmd::config::Config;

use crate::error::{CliError, Failure};

/// The name of the configuration file in the daemon's directory.
pub(crate) const CONFIG_FILE: &str = "pgmd.ron";

/// Where the configuration file is.
fn config_file(config: Option<&Path>, directory: Option<&Path>) -> Result<PathBuf, CliError> {
    if let Some(file) = config {
        return Ok(file.to_owned());
    }
    if let Some(directory) = directory {
        return Ok(directory.join(CONFIG_FILE));
    }
    let usual = [Path::new("."), Path::new("/etc/pgm")];
    let found = usual
        .iter()
        .map(|folder| folder.join(CONFIG_FILE))
        .find(|file| file.exists());
    found.ok_or_else(|| {
        CliError::new(
            Failure::Usage,
            format!("there is no {CONFIG_FILE} here or in /etc/pgm"),
            Some("name the directory with -D DIR, or make one: pgm-cli init DIR --server NAME=CONNINFO".into()),
        )
    })
}

/// Reads the configuration.
pub(crate) fn config(config: Option<&Path>, directory: Option<&Path>) -> Result<Config, CliError> {
    Ok(Config::load(&config_file(config, directory)?)?)
}
