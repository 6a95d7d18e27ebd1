//! What the settings name on this machine, looked at before anything starts and by `--check-config`. Changes nothing.

use std::io;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::unistd::{AccessFlags, access};

use crate::backend::{self, TrustError};
use crate::config::Config;
use crate::{Certificate, TlsError, native};

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
        "cannot use {path} (--{setting}): {}{source}; name a directory in which the user who runs this may write",
        place(.looked_at, .path)
    )]
    Directory {
        /// The setting that names it.
        setting: &'static str,
        /// As given.
        path: PathBuf,
        /// What was looked at: the directory, or what there is of the way to it.
        looked_at: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Names what was looked at, if that is not the path itself.
fn place(looked_at: &Path, path: &Path) -> String {
    match std::path::absolute(path).is_ok_and(|path| path == looked_at) {
        true => String::new(),
        false => format!("{}: ", looked_at.display()),
    }
}

/// What somebody should know, although a start works.
#[derive(Debug, PartialEq, Eq)]
pub enum Remark {
    /// As usual.
    Note(String),
    /// Something will not work.
    Warning(String),
}

/// Looks at the files and directories that a start needs. Returns what somebody should know, although a start works.
///
/// # Errors
///
/// If a start would fail for one of them.
pub fn check(config: &Config) -> Result<Vec<Remark>, PreflightError> {
    let mut remarks = Vec::new();
    if !config.http || config.kurento_secure.is_some() {
        if Certificate::is_to_be_made(config) {
            check_directory("data-dir", &config.data_dir, Writing::Required)?;
        } else {
            Certificate::load(config)?;
        }
    }
    if backend::trust(config)?.is_some_and(|roots| roots.is_empty()) {
        let remark =
            "this system trusts no certificate authority: wss:// fails until --kms-ca names one";
        remarks.push(Remark::Warning(remark.to_owned()));
    }
    // Without the media server of this process they are not touched.
    let recordings = config.recordings.as_ref();
    if let Some(directory) = recordings.filter(|_| native::is_wanted(config)) {
        remarks.extend(check_directory("recordings", directory, Writing::Hoped)?);
    }
    Ok(remarks)
}

/// What a directory is good for in which nothing can be written, as volumes of containers may be.
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
) -> Result<Option<Remark>, PreflightError> {
    let unusable = |looked_at: &Path, source| PreflightError::Directory {
        setting,
        path: path.to_owned(),
        looked_at: looked_at.to_owned(),
        source,
    };
    // The start makes what is missing of it. A link that leads nowhere is there, and in the way.
    let absolute = std::path::absolute(path).map_err(|error| unusable(path, error))?;
    let mut ways = absolute.ancestors();
    let existing = ways.find(|folder| folder.symlink_metadata().is_ok());
    let existing = existing.unwrap_or(&absolute);
    let looked_at = |error: Errno| unusable(existing, error.into());
    if !existing.is_dir() {
        let source = io::ErrorKind::NotADirectory.into();
        return Err(unusable(existing, source));
    }
    // Not that it can be listed: files are opened by their names.
    access(existing, AccessFlags::X_OK).map_err(looked_at)?;
    let is_missing = existing != absolute;
    let named = format!("{} (--{setting})", path.display());
    Ok(match access(existing, AccessFlags::W_OK) {
        Ok(()) if is_missing => Some(Remark::Note(format!(
            "{named} does not exist, the start makes it"
        ))),
        Ok(()) => None,
        Err(error) if writing.is_needed(is_missing, error) => return Err(looked_at(error)),
        Err(error) => Some(Remark::Warning(format!(
            "{named} cannot be written ({}): its files can be played, and nothing is recorded",
            error.desc()
        ))),
    })
}

impl Writing {
    /// Whether a directory is of no use that cannot be written for that reason, or not be made.
    fn is_needed(self, is_missing: bool, error: Errno) -> bool {
        let is_forbidden = matches!(error, Errno::EROFS | Errno::EACCES);
        self == Self::Required || is_missing || !is_forbidden
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

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
        let Ok(Some(Remark::Note(remark))) = check("to/be/made") else {
            panic!("a first start is nothing to warn of");
        };
        assert!(remark.contains("the start makes it"), "{remark}");
        assert!(!place.join("to").exists());
        for name in ["file", "file/below"] {
            let error = check(name).unwrap_err();
            for part in ["(--recordings)", "not a directory", "name a directory"] {
                assert!(error.contains(part), "{part} in {error}");
            }
        }
        // What is in the way is named.
        let error = check("file/below").unwrap_err();
        let in_the_way = format!(": {}: ", place.join("file").display());
        assert!(error.contains(&in_the_way), "{error}");
        symlink(place.join("nothing"), place.join("link")).unwrap();
        for name in ["link", "link/below"] {
            let error = check(name).unwrap_err();
            assert!(error.contains("/link"), "{error}");
        }
        fs::remove_dir_all(place).unwrap();
    }

    /// As root, everything is allowed.
    #[test]
    fn recordings_that_can_only_be_read_are_good_for_playing() {
        let (there, missing) = (false, true);
        for (writing, is_missing, error, is_needed) in [
            (Writing::Hoped, there, Errno::EROFS, false),
            (Writing::Hoped, there, Errno::EACCES, false),
            (Writing::Hoped, there, Errno::EIO, true),
            (Writing::Hoped, missing, Errno::EROFS, true),
            (Writing::Hoped, missing, Errno::EACCES, true),
            (Writing::Required, there, Errno::EROFS, true),
            (Writing::Required, there, Errno::EACCES, true),
        ] {
            assert_eq!(writing.is_needed(is_missing, error), is_needed, "{error}");
        }
    }

    #[test]
    fn recordings_are_not_looked_at_where_nothing_records() {
        let uri = "ws://192.0.2.1:8888/kurento";
        let config = |kurento| Config {
            http: true,
            kms_uri: vec![uri.to_owned()],
            kurento,
            recordings: Some("/dev/null".into()),
            ..Config::default()
        };
        assert_eq!(check(&config(None)).unwrap(), vec![]);
        assert!(check(&config(Some(([127, 0, 0, 1], 0).into()))).is_err());
    }
}
