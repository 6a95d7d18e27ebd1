//! Which files may be written and played: those below one directory.
//!
//! [`Place::read`] and [`Place::write`] take what applications send: a `file:` URI, or a path relative to the directory.
//! Paths do not climb out of it, and symbolic links must not lead out. Whoever can make links in the directory while a
//! file is opened is trusted. Deliberately absent: other schemes.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Component, Path, PathBuf};

/// Longest URI, bytes: the longest path that systems take.
const URI_BYTES_MAX: usize = 4096;

/// Why a file is not opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlaceError {
    /// There is no directory.
    #[error("no directory for recordings is set up (--recordings)")]
    Nowhere,
    /// Only `file:` URIs are.
    #[error("scheme {0} is not supported")]
    Scheme(String),
    /// The text is no URI of a file.
    #[error("not the URI of a file")]
    Malformed,
    /// The file is not below the directory.
    #[error("the file is outside the directory for recordings")]
    Outside,
    /// A directory, device or pipe.
    #[error("not a regular file")]
    NotAFile,
    /// The system refuses.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// The directory for recordings.
#[derive(Clone, Debug)]
pub struct Place {
    /// `None`: no file at all.
    directory: Option<PathBuf>,
}

impl Place {
    /// Files below `directory`, which is made if it is missing.
    ///
    /// # Errors
    ///
    /// If the directory cannot be made or found.
    pub fn new(directory: &Path) -> io::Result<Self> {
        fs::create_dir_all(directory)?;
        let directory = directory.canonicalize()?;
        Ok(Self {
            directory: Some(directory),
        })
    }

    /// No file at all.
    pub fn nowhere() -> Self {
        Self { directory: None }
    }

    /// Opens a file to play it.
    ///
    /// # Errors
    ///
    /// If it is outside the directory, missing, or not readable.
    pub fn read(&self, uri: &str) -> Result<File, PlaceError> {
        let path = self.path(uri)?.canonicalize()?;
        if !path.starts_with(self.directory()?) {
            return Err(PlaceError::Outside);
        }
        // Opening a pipe would wait for its other end.
        if !fs::metadata(&path)?.is_file() {
            return Err(PlaceError::NotAFile);
        }
        Ok(File::open(path)?)
    }

    /// Makes a file, and the directories that lead to it. What was there before is overwritten.
    ///
    /// # Errors
    ///
    /// If it is outside the directory or not writable.
    pub fn write(&self, uri: &str) -> Result<File, PlaceError> {
        let path = self.path(uri)?;
        let name = path.file_name().ok_or(PlaceError::Malformed)?;
        let parent = path.parent().ok_or(PlaceError::Malformed)?;
        let there = parent.ancestors().find(|it| it.symlink_metadata().is_ok());
        let there = there.ok_or(PlaceError::Outside)?.canonicalize()?;
        if !there.starts_with(self.directory()?) {
            return Err(PlaceError::Outside);
        }
        fs::create_dir_all(parent)?;
        let path = parent.canonicalize()?.join(name);
        if !path.starts_with(self.directory()?) {
            return Err(PlaceError::Outside);
        }
        match path.symlink_metadata() {
            Ok(known) if known.is_symlink() => return Err(PlaceError::Outside),
            Ok(known) if !known.is_file() => return Err(PlaceError::NotAFile),
            _ => {}
        }
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true);
        Ok(options.open(path)?)
    }

    fn directory(&self) -> Result<&Path, PlaceError> {
        self.directory.as_deref().ok_or(PlaceError::Nowhere)
    }

    /// The path of a URI, without a step upwards.
    fn path(&self, uri: &str) -> Result<PathBuf, PlaceError> {
        if uri.len() > URI_BYTES_MAX || uri.contains('\0') {
            return Err(PlaceError::Malformed);
        }
        let path = match uri.split_once(':') {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("file") => {
                let path = match rest.strip_prefix("//") {
                    // An authority must be empty or this machine.
                    Some(rest) => rest.strip_prefix("localhost").unwrap_or(rest),
                    None => rest,
                };
                if !path.starts_with('/') {
                    return Err(PlaceError::Malformed);
                }
                decode(path)?
            }
            Some((scheme, _)) if is_scheme(scheme) => {
                return Err(PlaceError::Scheme(scheme.to_owned()));
            }
            _ => decode(uri)?,
        };
        if path.is_empty() || path.contains('\0') {
            return Err(PlaceError::Malformed);
        }
        let path = self.directory()?.join(path);
        let climbs = |it: Component<'_>| matches!(it, Component::ParentDir);
        if path.components().any(climbs) {
            return Err(PlaceError::Outside);
        }
        Ok(path)
    }
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text
            .chars()
            .all(|it| it.is_ascii_alphanumeric() || matches!(it, '+' | '-' | '.'))
}

/// Takes percent-encoding off (RFC 3986, section 2.1).
fn decode(text: &str) -> Result<String, PlaceError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || rest.next().and_then(|byte| char::from(byte).to_digit(16));
        let (Some(high), Some(low)) = (digit(), digit()) else {
            return Err(PlaceError::Malformed);
        };
        bytes.push((high << 4 | low) as u8);
    }
    String::from_utf8(bytes).map_err(|_| PlaceError::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory of its own for each test, gone afterwards.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("place-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path.canonicalize().unwrap())
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn files_below_the_directory_are_made_and_read() {
        let scratch = Scratch::new("below");
        let place = Place::new(&scratch.0).unwrap();
        let absolute = format!("file://{}/a%20b/c.webm", scratch.0.display());
        place.write(&absolute).unwrap();
        place.read("a b/c.webm").unwrap();
        place.write("d/e/f.webm").unwrap();
        assert!(scratch.0.join("d/e/f.webm").is_file());
    }

    #[test]
    fn nothing_outside_is_touched() {
        let scratch = Scratch::new("outside");
        let outside = Scratch::new("elsewhere");
        fs::write(outside.0.join("secret"), "x").unwrap();
        let place = Place::new(&scratch.0).unwrap();
        std::os::unix::fs::symlink(&outside.0, scratch.0.join("link")).unwrap();
        std::os::unix::fs::symlink(outside.0.join("secret"), scratch.0.join("file")).unwrap();
        let elsewhere = format!("file://{}/secret", outside.0.display());
        let uris = [
            "../x.webm",
            "a/../../x.webm",
            "%2e%2e/x.webm",
            "file:///etc/passwd",
            "/etc/passwd",
            "link/secret",
            "link/new/x.webm",
            "file",
            &elsewhere,
        ];
        for uri in uris {
            let (read, written) = (place.read(uri), place.write(uri));
            assert!(read.is_err(), "{uri}");
            assert!(
                matches!(written, Err(PlaceError::Outside)),
                "{uri}: {written:?}"
            );
        }
        assert_eq!(
            fs::read_to_string(outside.0.join("secret")).unwrap(),
            "x",
            "untouched"
        );
    }

    #[test]
    fn only_files_are_addressed() {
        let scratch = Scratch::new("schemes");
        let place = Place::new(&scratch.0).unwrap();
        for uri in ["http://host/x", "rtsp://host/x", "HTTPS://host"] {
            assert!(
                matches!(place.write(uri), Err(PlaceError::Scheme(_))),
                "{uri}"
            );
        }
        for uri in ["", "file://host/x", "%zz", "a\0b", "%00"] {
            assert!(
                matches!(place.write(uri), Err(PlaceError::Malformed)),
                "{uri}"
            );
        }
        assert!(matches!(place.read("."), Err(PlaceError::NotAFile)));
    }
}
