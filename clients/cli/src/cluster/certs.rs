//! `triggers cluster certs`: the certificate authority of a cluster, and a certificate for each
//! node.
//!
//! ```text
//! DIR/ca.pem    DIR/ca-key.pem      the authority, made once and used again
//! DIR/NAME.pem  DIR/NAME-key.pem    one node; other nodes check the name in its certificate
//! ```
//! - `CERTS-1`: no file is written before every certificate is made and accepted under the
//!   authority.
//! - `CERTS-2`: a node's files are replaced only on request, and the authority's never.
//! - `CERTS-3`: only its owner can read a private key, from the moment its file exists.
//!
//! The command distributes no files and renews nothing by itself.

use super::super::exit::{CommandError, CommandResult};
use super::super::output;
use super::super::table::Table;
use authority::{Authority, Pair, expiry};
use clap::Args;
use rustls::pki_types::ServerName;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use triggers_protocol::{Environment, Timestamp};

mod authority;

#[cfg(test)]
mod tests;

const MODE_PUBLIC: u32 = 0o644;
const MODE_PRIVATE: u32 = 0o600;

/// Arguments of `triggers cluster certs`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  triggers cluster certs --out cluster --node node-1,node-2,node-3
  triggers cluster certs --out cluster --node node-4                 later, under the same authority
  triggers cluster certs --out cluster --node node-1 --force         renew before it expires

Each node needs ca.pem and its own two files. Keep ca-key.pem off the nodes: who has it can join \
the \
cluster.")]
pub struct CertsArguments {
    /// Directory for the files; created if missing
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Names of the nodes (node.name), separated by commas; repeatable
    #[arg(long = "node", value_name = "NAME", required = true, value_delimiter = ',',
        value_parser = node_name)]
    pub nodes: Vec<String>,
    /// A further host name or IP address for the certificates; repeatable
    #[arg(long = "host", value_name = "HOST_OR_IP", value_parser = host)]
    pub hosts: Vec<String>,
    /// How long the certificates of the nodes are valid
    #[arg(long, value_name = "N", default_value_t = 825,
        value_parser = clap::value_parser!(u32).range(1..=36_500))]
    pub days: u32,
    /// How long a new authority is valid
    #[arg(long, value_name = "N", default_value_t = 3_650,
        value_parser = clap::value_parser!(u32).range(1..=36_500))]
    pub ca_days: u32,
    /// Replace existing files of a node
    #[arg(long)]
    pub force: bool,
}

/// A new file and its content.
#[derive(Debug, PartialEq, Eq)]
struct Made {
    file: PathBuf,
    holds: String,
}

/// Makes the files and prints what to do with them.
///
/// # Errors
/// `CommandError::Failed` if a file is there already, or cannot be read or written.
pub fn run(arguments: &CertsArguments) -> CommandResult {
    let made = make(arguments, &Environment::system())?;
    let mut table = Table::new(["FILE", "HOLDS"]);
    for Made { file, holds } in &made {
        table.row([file.display().to_string(), holds.clone()]);
    }
    output::line(&table.to_string())?;
    output::note(&hint(arguments));
    Ok(())
}

fn make(arguments: &CertsArguments, environment: &Environment) -> Result<Vec<Made>, CommandError> {
    let CertsArguments { out, hosts, days, ca_days, force, .. } = arguments;
    let mut nodes = arguments.nodes.clone();
    nodes.sort();
    nodes.dedup();
    if !force {
        let existing =
            nodes.iter().flat_map(|node| [certificate_file(out, node), key_file(out, node)]);
        refuse_existing(existing)?;
    }
    let now = environment.now();
    let (authority, new_authority) = match opened(out)? {
        Some(authority) => (authority, None),
        None => {
            let (authority, pair) = Authority::make(now, *ca_days).map_err(failed)?;
            (authority, Some(pair))
        }
    };
    let issued = |node: String| Ok((authority.issue(&node, hosts, now, *days)?, node));
    let issued: Vec<(Pair, String)> =
        nodes.into_iter().map(issued).collect::<Result<_, _>>().map_err(failed)?;

    fs::create_dir_all(out).map_err(|error| file_error("make", out, &error))?;
    let mut made = Vec::new();
    if let Some(pair) = &new_authority {
        made.extend(write_pair(out, "ca", pair, "the authority", expiry(now, *ca_days), false)?);
    }
    for (pair, node) in &issued {
        made.extend(write_pair(out, node, pair, node, expiry(now, *days), *force)?);
    }
    Ok(made)
}

/// Reads the authority in the directory, if there is one.
fn opened(out: &Path) -> Result<Option<Authority>, CommandError> {
    let (certificate, key) = (certificate_file(out, "ca"), key_file(out, "ca"));
    match (read(&certificate)?, read(&key)?) {
        (None, None) => Ok(None),
        (Some(certificate), Some(key)) => {
            Authority::open(&certificate, &key).map(Some).map_err(failed)
        }
        (found, _) => {
            let (there, missing) =
                if found.is_some() { (certificate, key) } else { (key, certificate) };
            let (there, missing) = (there.display(), missing.display());
            Err(CommandError::Failed(format!(
                "{there} is there, but {missing} is not: restore it, or begin elsewhere"
            )))
        }
    }
}

fn write_pair(
    out: &Path,
    name: &str,
    pair: &Pair,
    of: &str,
    expiry: Timestamp,
    replaces: bool,
) -> Result<[Made; 2], CommandError> {
    let (key, certificate) = (key_file(out, name), certificate_file(out, name));
    write(&key, &pair.key, MODE_PRIVATE, replaces)?;
    write(&certificate, &pair.certificate, MODE_PUBLIC, replaces)?;
    let expiry = expiry.to_string();
    let day = expiry.split('T').next().unwrap_or_default();
    Ok([
        Made { file: certificate, holds: format!("certificate of {of}, valid until {day}") },
        Made { file: key, holds: format!("private key of {of}") },
    ])
}

fn write(file: &Path, text: &str, mode: u32, replaces: bool) -> CommandResult {
    let written = || {
        if replaces && file.exists() {
            fs::remove_file(file)?;
        }
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(file)?
            .write_all(text.as_bytes())
    };
    written().map_err(|error| file_error("write", file, &error))
}

fn read(file: &Path) -> Result<Option<String>, CommandError> {
    match fs::read_to_string(file) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(file_error("read", file, &error)),
    }
}

fn refuse_existing(files: impl Iterator<Item = PathBuf>) -> CommandResult {
    let existing: Vec<String> =
        files.filter(|file| file.exists()).map(|file| file.display().to_string()).collect();
    if existing.is_empty() {
        return Ok(());
    }
    let existing = existing.join(", ");
    let text = format!("already there: {existing}; --force replaces the files of a node");
    Err(CommandError::Failed(text))
}

fn hint(arguments: &CertsArguments) -> String {
    let out = &arguments.out;
    let node = arguments.nodes.first().map_or("NAME", String::as_str);
    format!(
        "Set on each node, here on {node}:\n  \
         TRIGGERS__NODE__NAME={node}\n  \
         TRIGGERS__CLUSTER__TLS_CERTIFICATE_FILE={}\n  \
         TRIGGERS__CLUSTER__TLS_KEY_FILE={}\n  \
         TRIGGERS__CLUSTER__TLS_CA_FILE={}\n\
         Keep {} off the nodes: who has it can join the cluster.",
        certificate_file(out, node).display(),
        key_file(out, node).display(),
        certificate_file(out, "ca").display(),
        key_file(out, "ca").display(),
    )
}

fn certificate_file(out: &Path, name: &str) -> PathBuf {
    out.join(format!("{name}.pem"))
}

fn key_file(out: &Path, name: &str) -> PathBuf {
    out.join(format!("{name}-key.pem"))
}

fn failed(error: authority::AuthorityError) -> CommandError {
    CommandError::Failed(error.to_string())
}

fn file_error(what: &str, file: &Path, error: &io::Error) -> CommandError {
    CommandError::Failed(format!("cannot {what} {}: {error}", file.display()))
}

/// Parses a node's name: valid in a certificate, and with file names that no other node shares.
fn node_name(text: &str) -> Result<String, String> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let begins = text.starts_with(|first: char| first.is_ascii_lowercase());
    if !begins || text.len() > 63 || text.ends_with('-') || !text.bytes().all(allowed) {
        return Err("must be 1 to 63 characters of a-z, 0-9 and -, beginning with a letter, not \
                    ending with -"
            .to_owned());
    }
    if text == "ca" || text.ends_with("-key") {
        return Err(
            "must be neither ca nor end with -key: its files would be those of another".to_owned()
        );
    }
    Ok(text.to_owned())
}

fn host(text: &str) -> Result<String, String> {
    match ServerName::try_from(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err("must be a host name or an IP address".to_owned()),
    }
}
