//! The daemon's secrets and the files that hold them.
//!
//! ```text
//! master.key    the master key, unless a command or the environment gives it          64 hexadecimal digits
//! vault.ron     passwords of PostgreSQL's users, each sealed with the master key
//! admins.ron    the users of remote management: roles, and SCRAM verifiers instead of passwords
//! scram.secret  random; makes the salts of users who do not exist
//! ```
//!
//! All of them have mode 0600, are replaced whole, and are refused when others can read them. The daemon and the command
//! line use the same code: `pgm-cli admin` edits the files also while no daemon runs.
//!
//! Not here: who may log in from where (`service`), what a role may do (`pgm_mgmt::Role`).

mod admins;
mod error;
mod master_key;
mod mock_secret;
mod password;
pub(crate) mod private_file;
mod store;
mod user_name;
mod vault;

pub use admins::{Admin, Admins};
pub use error::SecretsError;
pub use master_key::{Argon2Salt, create_master_key, from_passphrase, master_key};
pub use mock_secret::MockSecret;
pub use password::{
    PASSWORD_BYTES_MAX, PasswordLength, check_password, random_password, secret_from,
};
pub use store::{LoadedSecrets, Passwords};
pub use user_name::{ParseUserNameError, UserName};
pub use vault::{Vault, VaultEntry};
