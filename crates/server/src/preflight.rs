//! What the settings name on this machine, looked at before anything starts and by `--check-config`. Changes nothing.

use std::io;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::unistd::{AccessFlags, access};

use crate::backend::{self, TrustError};
use crate::config::Config;
use crate::{Certificate, TlsError};

/// What cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PreflightError {
    /// The certificate or its key.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The authorities that certify other media servers.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// A directory.
    #[error(
        "cannot use {path} (--{setting}): {source}; name a directory in which the user who runs this may write"
    )]
    Directory {
        /// The setting that names it.
        setting: &'static str,
        /// As given.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Looks at the files and directories that a start needs. Returns what is worth a remark.
///
/// # Errors
///
/// If a start would fail for one of them, or nothing could be recorded.
pub fn check(config: &Config) -> Result<Vec<String>, PreflightError> {
    if !config.http || config.kurento_secure.is_some() {
        if Certificate::is_to_be_made(config) {
            check_directory("data-dir", &config.data_dir, Writing::Required)?;
        } else {
            Certificate::load(config)?;
        }
    }
    backend::trust(config)?;
    let mut remarks = Vec::new();
    if let Some(directory) = &config.recordings {
        remarks.extend(check_directory("recordings", directory, Writing::Hoped)?);
    }
    Ok(remarks)
}

/// What a directory on a file system that is read-only, as volumes of containers may be, is good for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Writing {
    /// Nothing.
    Required,
    /// Reading.
    Hoped,
}

/// Whether a directory can be used, or made.
fn check_directory(
    setting: &'static str,
    path: &Path,
    writing: Writing,
) -> Result<Option<String>, PreflightError> {
    let shown = path.display();
    let unusable = |source| PreflightError::Directory {
        setting,
        path: path.to_owned(),
        source,
    };
    // The start makes what is missing of it.
    let absolute = std::path::absolute(path).map_err(unusable)?;
    let existing = absolute.ancestors().find(|folder| folder.exists());
    let existing = existing.unwrap_or(&absolute);
    if !existing.is_dir() {
        return Err(unusable(io::ErrorKind::NotADirectory.into()));
    }
    let is_missing = existing != absolute;
    let search = AccessFlags::X_OK | AccessFlags::R_OK;
    access(existing, search).map_err(|error| unusable(error.into()))?;
    match access(existing, AccessFlags::W_OK) {
        Ok(()) if is_missing => Ok(Some(format!(
            "{shown} (--{setting}) does not exist, the start makes it"
        ))),
        Ok(()) => Ok(None),
        Err(Errno::EROFS) if writing == Writing::Hoped && !is_missing => Ok(Some(format!(
            "{shown} (--{setting}) is read-only: its files can be played, and nothing is recorded"
        ))),
        Err(error) => Err(unusable(error.into())),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn directories_that_cannot_be_used_or_made_are_refused() {
        let place = std::env::temp_dir().join(format!("tertulia-preflight-{}", std::process::id()));
        fs::create_dir_all(place.join("there")).unwrap();
        fs::write(place.join("file"), "").unwrap();
        let check = |name: &str| {
            let found = check_directory("recordings", &place.join(name), Writing::Hoped);
            found.map_err(|error| error.to_string())
        };
        assert_eq!(check("there"), Ok(None));
        let remark = check("to/be/made").unwrap().unwrap();
        assert!(remark.contains("the start makes it"), "{remark}");
        assert!(!place.join("to").exists());
        for name in ["file", "file/below"] {
            let error = check(name).unwrap_err();
            for part in ["(--recordings)", "not a directory", "name a directory"] {
                assert!(error.contains(part), "{part} in {error}");
            }
        }
        fs::remove_dir_all(place).unwrap();
    }
}
