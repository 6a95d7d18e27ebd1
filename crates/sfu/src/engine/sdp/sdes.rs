//! `a=crypto` (SDES, RFC 4568): keys of SRTP, told by the descriptions themselves.
//!
//! Read [`CryptoKey`]. What would need more of SRTP than DTLS does is not understood, so that the line does not count:
//! several keys with identifiers, other key derivation rates, and media that are not encrypted or not authenticated.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use media::{CryptoSuite, Sdes};
use rand::RngCore as _;
use zeroize::Zeroizing;

use super::SdpError;
use crate::engine::srtp::{MasterKey, Profile};

/// Lines read from one section. There is one for each suite, and four suites.
const CRYPTOS_MAX: usize = 16;
/// Largest tag (RFC 4568, section 9.1: nine digits).
const TAG_MAX: u32 = 999_999_999;

/// A key that one side sends with.
#[derive(Clone, PartialEq, Eq)]
pub struct CryptoKey {
    suite: CryptoSuite,
    /// Key and salt, as many as the suite has.
    bytes: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for CryptoKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = formatter.debug_struct("CryptoKey");
        debug.field("suite", &self.suite).finish_non_exhaustive()
    }
}

impl CryptoKey {
    /// The application's, or one that is drawn here.
    pub fn of(sdes: &Sdes) -> Self {
        let suite = sdes.suite();
        let mut bytes = Zeroizing::new(vec![0; suite.key_bytes()]);
        match sdes.key() {
            Some(key) => bytes.copy_from_slice(key),
            None => rand::rng().fill_bytes(&mut bytes),
        }
        Self { suite, bytes }
    }

    /// What a description tells: master key and master salt, one after the other.
    fn decode(suite: CryptoSuite, text: &str) -> Option<Self> {
        let bytes = Zeroizing::new(BASE64.decode(text).ok()?);
        (bytes.len() == suite.key_bytes()).then_some(Self { suite, bytes })
    }

    /// What both sides use.
    pub fn suite(&self) -> CryptoSuite {
        self.suite
    }

    /// As SRTP has it.
    pub fn master_key(&self) -> MasterKey {
        let profile = match self.suite {
            CryptoSuite::Aes128CmHmacSha1_32 => Profile::Aes128CmHmacSha1_32,
            CryptoSuite::Aes128CmHmacSha1_80 => Profile::Aes128CmHmacSha1_80,
            CryptoSuite::Aes256CmHmacSha1_32 => Profile::Aes256CmHmacSha1_32,
            CryptoSuite::Aes256CmHmacSha1_80 => Profile::Aes256CmHmacSha1_80,
        };
        let (key, salt) = self.bytes.split_at(profile.key_len());
        MasterKey::new(profile, key, salt)
    }
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Crypto {
    /// Which line of the offer an answer takes.
    pub(super) tag: u32,
    pub(super) key: CryptoKey,
}

impl Crypto {
    /// Reads the lines that we understand.
    pub(super) fn parse_all<'a>(values: impl Iterator<Item = &'a str>) -> Vec<Self> {
        values.take(CRYPTOS_MAX).filter_map(Self::parse).collect()
    }

    /// Reads `<tag> <suite> inline:<key>[|<lifetime>] [WSH=<n>]`.
    fn parse(value: &str) -> Option<Self> {
        let mut words = value.split_ascii_whitespace();
        let tag = words.next()?.parse().ok().filter(|tag| *tag <= TAG_MAX)?;
        let suite = words.next()?;
        let suite = CryptoSuite::ALL.into_iter().find(|it| name(*it) == suite)?;
        let mut parts = words.next()?.strip_prefix("inline:")?.split('|');
        let key = CryptoKey::decode(suite, parts.next()?)?;
        // How long the key lasts is the sender's business; an identifier would be in every packet.
        let is_plain = parts.all(|part| !part.contains([':', ';']));
        let is_usual = words.all(|parameter| parameter.starts_with("WSH="));
        (is_plain && is_usual).then_some(Self { tag, key })
    }

    /// The line of an offer that the key of ours is an answer to.
    pub(super) fn choose<'a>(offered: &'a [Self], ours: &CryptoKey) -> Option<&'a Self> {
        let mut offered = offered.iter();
        offered.find(|offered| offered.key.suite == ours.suite)
    }

    /// The line of an answer to this one.
    pub(super) fn answered<'a>(&self, answer: &'a [Self]) -> Result<&'a Self, SdpError> {
        let fits = |answer: &&Self| answer.tag == self.tag && answer.key.suite == self.key.suite;
        let found = answer.iter().find(fits);
        found.ok_or(SdpError::Unacceptable("answer without our a=crypto"))
    }
}

impl fmt::Display for Crypto {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = Zeroizing::new(BASE64.encode(&*self.key.bytes));
        let suite = name(self.key.suite);
        write!(formatter, "{} {suite} inline:{}", self.tag, *key)
    }
}

fn name(suite: CryptoSuite) -> &'static str {
    match suite {
        CryptoSuite::Aes128CmHmacSha1_32 => "AES_CM_128_HMAC_SHA1_32",
        CryptoSuite::Aes128CmHmacSha1_80 => "AES_CM_128_HMAC_SHA1_80",
        CryptoSuite::Aes256CmHmacSha1_32 => "AES_256_CM_HMAC_SHA1_32",
        CryptoSuite::Aes256CmHmacSha1_80 => "AES_256_CM_HMAC_SHA1_80",
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const KEY: &str = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5";

    #[test]
    fn lines_that_we_can_obey_are_read() {
        let eighty = "AES_CM_128_HMAC_SHA1_80";
        for (line, is_read) in [
            (format!("1 {eighty} inline:{KEY}"), true),
            (format!("7  {eighty} inline:{KEY}|2^20 WSH=64"), true),
            (
                format!("1 AES_CM_128_HMAC_SHA1_32 inline:{KEY}|1048576"),
                true,
            ),
            (format!("1 {eighty} inline:{KEY}|2^20|1:4"), false),
            (
                format!("1 {eighty} inline:{KEY}|1:4;inline:{KEY}|2:4"),
                false,
            ),
            (format!("1 {eighty} inline:{KEY} UNENCRYPTED_SRTP"), false),
            (format!("1 {eighty} inline:{KEY} KDR=1"), false),
            (format!("1 AES_256_CM_HMAC_SHA1_80 inline:{KEY}"), false),
            (format!("1 F8_128_HMAC_SHA1_80 inline:{KEY}"), false),
            (format!("1 {eighty} inline:{}", &KEY[1..]), false),
            (format!("1 {eighty} {KEY}"), false),
            (format!("one {eighty} inline:{KEY}"), false),
            (format!("1000000000 {eighty} inline:{KEY}"), false),
            (String::new(), false),
        ] {
            assert_eq!(Crypto::parse(&line).is_some(), is_read, "{line}");
        }
    }

    #[test]
    fn debug_output_holds_no_key() {
        let line = format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}");
        let shown = format!("{:?}", Crypto::parse(&line).unwrap());
        assert!(!shown.contains("bytes") && !shown.contains("48"), "{shown}");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(tag in 0..=TAG_MAX, suite in 0..4_usize, bytes in vec(any::<u8>(), 46)) {
            let suite = CryptoSuite::ALL[suite];
            let sdes = Sdes::with_key(suite, bytes[..suite.key_bytes()].to_vec()).unwrap();
            let crypto = Crypto { tag, key: CryptoKey::of(&sdes) };
            prop_assert_eq!(Crypto::parse(&crypto.to_string()), Some(crypto));
        }

        #[test]
        fn anything_is_read_without_panic(line in any::<String>()) {
            let _ = Crypto::parse(&line);
        }
    }
}
