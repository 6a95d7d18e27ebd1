//! Our DTLS certificate and the fingerprints which stand in for a certificate authority (RFC 8122).
//!
//! Read [`Certificate`] first: one is made at start and shared by every transport. Deliberately
//! absent: chains and expiry checks, since WebRTC authenticates by fingerprint only.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest;
use rtc_crypto::RTCCryptoProvider;
use smallvec::SmallVec;
use thiserror::Error;

/// Why a certificate could not be made.
#[derive(Debug, Error)]
#[error("no certificate: {0}")]
pub struct CertificateError(String);

/// An ECDSA P-256 certificate with its private key.
///
/// Cheap to clone.
#[derive(Clone)]
pub struct Certificate {
    dtls: rtc_dtls::crypto::Certificate,
    provider: Arc<dyn RTCCryptoProvider>,
    fingerprint: Fingerprint,
}

impl Certificate {
    /// Makes a key pair and a self-signed certificate for it.
    ///
    /// # Errors
    ///
    /// Only if the cryptographic provider is out of order.
    pub fn generate() -> Result<Self, CertificateError> {
        let provider =
            rtc_crypto::default_provider().map_err(|e| CertificateError(e.to_string()))?;
        // Nobody reads the name: a constant one does not tell deployments apart.
        let dtls = rtc_dtls::crypto::Certificate::generate_self_signed(
            ["WebRTC".to_owned()],
            provider.crypto(),
        )
        .map_err(|e| CertificateError(e.to_string()))?;
        let der = dtls
            .certificate
            .first()
            .ok_or_else(|| CertificateError("empty chain".to_owned()))?;
        let fingerprint = Fingerprint::of(FingerprintHash::Sha256, der);
        Ok(Self {
            dtls,
            provider,
            fingerprint,
        })
    }

    /// The SHA-256 fingerprint to put into SDP.
    #[must_use]
    pub fn fingerprint(&self) -> &Fingerprint {
        &self.fingerprint
    }

    pub(super) fn dtls(&self) -> &rtc_dtls::crypto::Certificate {
        &self.dtls
    }

    pub(super) fn provider(&self) -> &Arc<dyn RTCCryptoProvider> {
        &self.provider
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate")
            .field("fingerprint", &self.fingerprint)
            .finish_non_exhaustive()
    }
}

/// A hash function that RFC 8122 section 5 lets identify a certificate and that is not broken.
///
/// SHA-1 and MD5 are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FingerprintHash {
    /// `sha-256`
    Sha256,
    /// `sha-384`
    Sha384,
    /// `sha-512`
    Sha512,
}

impl FingerprintHash {
    const ALL: [Self; 3] = [Self::Sha256, Self::Sha384, Self::Sha512];

    fn algorithm(self) -> &'static digest::Algorithm {
        match self {
            Self::Sha256 => &digest::SHA256,
            Self::Sha384 => &digest::SHA384,
            Self::Sha512 => &digest::SHA512,
        }
    }

    /// The name in SDP, lower case.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha-256",
            Self::Sha384 => "sha-384",
            Self::Sha512 => "sha-512",
        }
    }
}

/// Why an `a=fingerprint` is of no use.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum FingerprintError {
    /// SHA-1, MD5, or something unheard of.
    #[error("hash function {0:?} is not accepted")]
    Hash(String),
    /// Not pairs of hexadecimal digits with colons between, or not as many as the hash has.
    #[error("malformed fingerprint")]
    Malformed,
}

/// The hash of a certificate in DER, as in `a=fingerprint` (RFC 8122 section 5).
///
/// The text form is `sha-256 AB:CD:…`; [`Fingerprint::value`] is the part after the blank.
#[derive(Clone, PartialEq, Eq)]
pub struct Fingerprint {
    hash: FingerprintHash,
    digest: SmallVec<[u8; 32]>,
}

impl Fingerprint {
    /// Hashes a certificate.
    #[must_use]
    pub fn of(hash: FingerprintHash, der: &[u8]) -> Self {
        let digest = digest::digest(hash.algorithm(), der);
        Self {
            hash,
            digest: SmallVec::from_slice(digest.as_ref()),
        }
    }

    /// Reads the two words of an `a=fingerprint` value; case does not matter.
    ///
    /// # Errors
    ///
    /// See [`FingerprintError`].
    pub fn parse(hash: &str, value: &str) -> Result<Self, FingerprintError> {
        let hash = FingerprintHash::ALL
            .into_iter()
            .find(|known| known.name().eq_ignore_ascii_case(hash))
            .ok_or_else(|| FingerprintError::Hash(hash.chars().take(16).collect()))?;
        let length = hash.algorithm().output_len();
        let mut digest = SmallVec::with_capacity(length);
        for pair in value.split(':') {
            let [high, low] = pair.as_bytes() else {
                return Err(FingerprintError::Malformed);
            };
            if digest.len() == length {
                return Err(FingerprintError::Malformed);
            }
            digest.push(hex_digit(*high)? << 4 | hex_digit(*low)?);
        }
        if digest.len() != length {
            return Err(FingerprintError::Malformed);
        }
        Ok(Self { hash, digest })
    }

    /// The hash function.
    #[must_use]
    pub fn hash(&self) -> FingerprintHash {
        self.hash
    }

    /// Upper-case hexadecimal pairs with colons between.
    #[must_use]
    pub fn value(&self) -> String {
        let mut text = String::with_capacity(self.digest.len() * 3);
        for byte in &self.digest {
            if !text.is_empty() {
                text.push(':');
            }
            for nibble in [byte >> 4, byte & 15] {
                text.push(char::from(b"0123456789ABCDEF"[usize::from(nibble)]));
            }
        }
        text
    }

    /// True if this is the fingerprint of the certificate `der`.
    #[must_use]
    pub fn matches(&self, der: &[u8]) -> bool {
        let actual = digest::digest(self.hash.algorithm(), der);
        verify_slices_are_equal(actual.as_ref(), &self.digest).is_ok()
    }
}

fn hex_digit(digit: u8) -> Result<u8, FingerprintError> {
    match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        b'A'..=b'F' => Ok(digit - b'A' + 10),
        _ => Err(FingerprintError::Malformed),
    }
}

impl FromStr for Fingerprint {
    type Err = FingerprintError;

    fn from_str(text: &str) -> Result<Self, FingerprintError> {
        let (hash, value) = text.split_once(' ').ok_or(FingerprintError::Malformed)?;
        Self::parse(hash, value.trim())
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.hash.name(), self.value())
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_survives_the_round_trip() {
        let certificate = Certificate::generate().unwrap();
        let der = &certificate.dtls().certificate[0];
        for hash in FingerprintHash::ALL {
            let fingerprint = Fingerprint::of(hash, der);
            let text = fingerprint.to_string();
            assert_eq!(text.parse::<Fingerprint>().unwrap(), fingerprint);
            assert_eq!(
                text.to_lowercase().parse::<Fingerprint>().unwrap(),
                fingerprint
            );
            assert!(fingerprint.matches(der));
            assert!(!fingerprint.matches(b"another"));
        }
        assert_eq!(certificate.fingerprint().value().len(), 32 * 3 - 1);
    }

    #[test]
    fn weak_and_malformed_fingerprints_are_refused() {
        let digest = |count: usize| vec!["AB"; count].join(":");
        let rows = [
            ("sha-1", digest(20)),
            ("md5", digest(16)),
            ("sha-256", digest(31)),
            ("sha-256", digest(33)),
            ("sha-512", digest(32)),
            ("sha-256", String::new()),
            ("sha-256", digest(32).replace(':', "")),
            ("sha-256", digest(32).replace("AB", "A+")),
            ("sha-256", digest(32).replace("AB", "é")),
        ];
        for (hash, value) in rows {
            assert!(Fingerprint::parse(hash, &value).is_err(), "{hash} {value}");
        }
    }
}
