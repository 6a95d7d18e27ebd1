//! The certificate of the HTTPS side: the operator's, or one made on the first run and kept.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum_server::tls_rustls::RustlsConfig;
use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::config::Config;

/// The setting that names the folder of the self-made certificate.
const OWN: &str = "data-dir";

/// Why there is no usable certificate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {path} (--{setting}): {source}{}", advice(.source))]
    Read {
        /// The setting that names it, or its folder.
        setting: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file or folder cannot be written.
    #[error("cannot write {path}: {source}; choose another place with --data-dir")]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file has no PEM section of the right kind.
    #[error("{path} (--{setting}) has no usable {what} in PEM form; {}", remedy(.setting))]
    Pem {
        /// The setting that names it, or its folder.
        setting: &'static str,
        /// Which.
        path: PathBuf,
        /// What is missing.
        what: &'static str,
    },
    /// The key cannot be read without a password.
    #[error("the key in {path} (--{setting}) is encrypted: decrypt it first, with `openssl pkey`")]
    Encrypted {
        /// The setting that names it, or its folder.
        setting: &'static str,
        /// The key.
        path: PathBuf,
    },
    /// The certificate and the key do not fit each other or cannot be used.
    #[error(
        "certificate {cert} cannot be used with key {key} (--{setting}): {source}; {}",
        remedy(.setting)
    )]
    Unusable {
        /// The setting that names the key, or the folder of both.
        setting: &'static str,
        /// The certificate.
        cert: PathBuf,
        /// The key.
        key: PathBuf,
        /// Why.
        source: Box<rustls::Error>,
    },
    /// No certificate could be made.
    #[error("cannot make a certificate: {0}")]
    Generate(#[from] rcgen::Error),
}

/// What to do about a file that cannot be read.
pub(crate) fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => "; name a file that exists",
        io::ErrorKind::PermissionDenied => "; let the user who runs this program read it",
        _ => "",
    }
}

/// What to do about a file with the wrong content.
fn remedy(setting: &str) -> &'static str {
    match setting {
        OWN => "remove cert.pem and key.pem there, and the next start makes new ones",
        _ => "name a certificate (--cert) and the key that belongs to it (--key), both in PEM form",
    }
}

/// A certificate with its key, as servers show it.
#[derive(Clone, Debug)]
pub struct Certificate(Arc<ServerConfig>);

impl Certificate {
    /// Loads the one that `config` names. Makes one if it names none and there is none yet.
    pub fn load(config: &Config) -> Result<Self, TlsError> {
        load(config).map(Self)
    }

    /// Whether [`load`](Self::load) would make one.
    pub(crate) fn is_to_be_made(config: &Config) -> bool {
        config.cert.is_none() && kept(config).is_none()
    }

    /// Puts this one in the place of another, if there is one.
    pub(crate) fn replace(&self, other: Option<&RustlsConfig>) {
        if let Some(other) = other {
            other.reload_from_config(self.0.clone());
        }
    }
}

impl From<Certificate> for RustlsConfig {
    fn from(certificate: Certificate) -> Self {
        Self::from_config(certificate.0)
    }
}

fn load(config: &Config) -> Result<Arc<ServerConfig>, TlsError> {
    let (cert, key, settings) = match (&config.cert, &config.key) {
        (Some(cert), Some(key)) => (cert.clone(), key.clone(), ["cert", "key"]),
        _ => {
            let (cert, key) = self_signed(config)?;
            (cert, key, [OWN; 2])
        }
    };
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&read(&cert, settings[0])?)
        .collect::<Result<_, _>>()
        .ok()
        .filter(|chain: &Vec<_>| !chain.is_empty())
        .ok_or_else(|| pem_error(settings[0], &cert, "certificate"))?;
    let setting = settings[1];
    let pem = read(&key, setting)?;
    let private = PrivateKeyDer::from_pem_slice(&pem).map_err(|_| {
        // Both as the kind of a section and, in older files, as a header of it.
        if String::from_utf8_lossy(&pem).contains("ENCRYPTED") {
            let path = key.clone();
            return TlsError::Encrypted { setting, path };
        }
        pem_error(setting, &key, "private key")
    })?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut tls = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider supports TLS 1.2 and 1.3")
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .map_err(|source| TlsError::Unusable {
            setting,
            cert,
            key,
            source: Box::new(source),
        })?;
    // WebSocket needs an upgrade, which HTTP/2 does not have.
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(tls))
}

fn pem_error(setting: &'static str, path: &Path, what: &'static str) -> TlsError {
    TlsError::Pem {
        setting,
        path: path.to_owned(),
        what,
    }
}

fn read(path: &Path, setting: &'static str) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|source| TlsError::Read {
        setting,
        path: path.to_owned(),
        source,
    })
}

/// Where the self-made certificate and its key are kept.
fn places(config: &Config) -> (PathBuf, PathBuf) {
    let folder = &config.data_dir;
    (folder.join("cert.pem"), folder.join("key.pem"))
}

/// The same, if there are such files.
fn kept(config: &Config) -> Option<(PathBuf, PathBuf)> {
    Some(places(config)).filter(|(cert, key)| cert.exists() && key.exists())
}

/// Paths of the self-made certificate, which a browser asks its user to accept once.
fn self_signed(config: &Config) -> Result<(PathBuf, PathBuf), TlsError> {
    if let Some(kept) = kept(config) {
        return Ok(kept);
    }
    let (cert, key) = places(config);
    let write_error = |path: &Path| {
        let path = path.to_owned();
        |source| TlsError::Write { path, source }
    };
    create_private_dir(&config.data_dir).map_err(write_error(&config.data_dir))?;
    let made = rcgen::generate_simple_self_signed(names(config))?;
    write_private(&key, &made.signing_key.serialize_pem()).map_err(write_error(&key))?;
    write_private(&cert, &made.cert.pem()).map_err(write_error(&cert))?;
    tracing::info!(path = %cert.display(), "made a certificate");
    Ok((cert, key))
}

fn names(config: &Config) -> Vec<String> {
    let mut addresses = BTreeSet::from([config.listen.ip()]);
    addresses.extend(config.kurento_secure.map(|address| address.ip()));
    addresses.extend(&config.announce);
    addresses.retain(|address| !address.is_unspecified() && !address.is_loopback());
    let fixed = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
    let mut names: Vec<_> = fixed.into();
    names.extend(addresses.iter().map(ToString::to_string));
    names
}

fn create_private_dir(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

/// Writes a file that only its owner may read. A crash in between leaves the former content.
fn write_private(path: &Path, content: &str) -> io::Result<()> {
    let draft = path.with_extension("pem.new");
    let _ = fs::remove_file(&draft);
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&draft)?;
    file.write_all(content.as_bytes())?;
    file.sync_all()?;
    fs::rename(draft, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(name: &str) -> Config {
        let folder = format!("tertulia-tls-{name}-{}", std::process::id());
        let data_dir = std::env::temp_dir().join(folder).join("deep");
        let _ = fs::remove_dir_all(&data_dir);
        Config {
            data_dir,
            ..Config::default()
        }
    }

    #[test]
    fn certificate_is_made_once_and_kept_private() {
        let config = config("made");
        load(&config).unwrap();
        let key = config.data_dir.join("key.pem");
        let first = fs::read(&key).unwrap();
        load(&config).unwrap();
        assert_eq!(fs::read(&key).unwrap(), first);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
            assert_eq!(mode(&key), 0o600);
            assert_eq!(mode(&config.data_dir), 0o700);
        }
        fs::remove_dir_all(&config.data_dir).unwrap();
    }

    #[test]
    fn certificate_names_all_addresses_once() {
        let config = Config {
            listen: ([192, 0, 2, 1], 8443).into(),
            kurento_secure: Some(([192, 0, 2, 2], 8433).into()),
            announce: vec![[203, 0, 113, 7].into(), [192, 0, 2, 1].into()],
            ..Config::default()
        };
        let expected = ["192.0.2.1", "192.0.2.2", "203.0.113.7"];
        assert_eq!(names(&config)[3..], expected);
        assert_eq!(names(&Config::default()).len(), 3);
    }

    #[test]
    fn unusable_files_are_named() {
        let mut config = config("bad");
        load(&config).unwrap();
        let folder = config.data_dir.clone();
        let check = |config: &Config, expected: &str| {
            let message = load(config).unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
        };
        config.cert = Some(folder.join("absent.pem"));
        config.key = Some(folder.join("key.pem"));
        check(&config, "cannot read");
        check(&config, "absent.pem");
        config.cert = Some(folder.join("key.pem"));
        check(&config, "key.pem (--cert) has no usable certificate");
        config.cert = Some(folder.join("cert.pem"));
        config.key = Some(folder.join("cert.pem"));
        check(&config, "cert.pem (--key) has no usable private key");
        check(&config, "the key that belongs to it (--key)");
        let locked = folder.join("locked.pem");
        let section = "ENCRYPTED PRIVATE KEY-----\n";
        fs::write(
            &locked,
            format!("-----BEGIN {section}AAAA\n-----END {section}"),
        )
        .unwrap();
        config.key = Some(locked);
        check(&config, "is encrypted");
        let other = super::tests::config("other");
        load(&other).unwrap();
        config.key = Some(other.data_dir.join("key.pem"));
        check(&config, "cannot be used with key");
        check(&config, "the key that belongs to it (--key)");
        // Of a damaged certificate of its own, the way out is another.
        (config.cert, config.key) = (None, None);
        fs::copy(other.data_dir.join("key.pem"), folder.join("key.pem")).unwrap();
        check(&config, "(--data-dir)");
        check(&config, "remove cert.pem and key.pem");
        fs::write(folder.join("cert.pem"), "").unwrap();
        check(&config, "remove cert.pem and key.pem");
        for name in ["cert.pem", "key.pem"] {
            fs::remove_file(folder.join(name)).unwrap();
        }
        load(&config).unwrap();
        for folder in [&folder, &other.data_dir] {
            fs::remove_dir_all(folder).unwrap();
        }
    }
}
