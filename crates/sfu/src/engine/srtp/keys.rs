//! Protection profiles and keys: from the DTLS exporter to the session keys of one direction.
//!
//! Start at [`KeyingMaterial`].

use std::fmt;

use aes::cipher::{KeyIvInit, StreamCipher};
use aes::{Aes128, Aes256};
use ctr::Ctr128BE;
use zeroize::Zeroizing;

/// The longest master or session key of any profile, in bytes.
const KEY_MAX: usize = 32;

/// The longest salt of any profile, in bytes; also what key derivation pads a shorter one to (RFC 3711, section 4.3.1).
const SALT_MAX: usize = 14;

/// The HMAC-SHA1 key of the counter-mode profile, in bytes (RFC 3711, section 5.2).
const AUTHENTICATION_KEY: usize = 20;

/// An SRTP protection profile as DTLS negotiates it (RFC 5764, section 4.1.2; RFC 7714, section 14.2), or as a session
/// description names it (SDES: RFC 4568, section 6.2; RFC 6188, section 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Profile {
    /// `SRTP_AEAD_AES_128_GCM`: by far the cheapest where the processor has AES instructions.
    AeadAes128Gcm,
    /// `SRTP_AEAD_AES_256_GCM`.
    AeadAes256Gcm,
    /// `SRTP_AES128_CM_HMAC_SHA1_80`: what every WebRTC end point speaks, at several times the cost.
    Aes128CmHmacSha1_80,
    /// `AES_CM_128_HMAC_SHA1_32` of SDES: short tags for RTP, those of RTCP are long.
    Aes128CmHmacSha1_32,
    /// `AES_256_CM_HMAC_SHA1_80` of SDES.
    Aes256CmHmacSha1_80,
    /// `AES_256_CM_HMAC_SHA1_32` of SDES.
    Aes256CmHmacSha1_32,
}

impl Profile {
    /// All profiles.
    pub const ALL: [Self; 6] = [
        Self::AeadAes128Gcm,
        Self::AeadAes256Gcm,
        Self::Aes128CmHmacSha1_80,
        Self::Aes128CmHmacSha1_32,
        Self::Aes256CmHmacSha1_80,
        Self::Aes256CmHmacSha1_32,
    ];

    /// Those that are agreed on by DTLS, the one to prefer first.
    pub const PREFERENCE: [Self; 3] = [
        Self::AeadAes128Gcm,
        Self::AeadAes256Gcm,
        Self::Aes128CmHmacSha1_80,
    ];

    /// Its place in [`Self::ALL`].
    #[must_use]
    pub(in crate::engine) const fn rank(self) -> usize {
        match self {
            Self::AeadAes128Gcm => 0,
            Self::AeadAes256Gcm => 1,
            Self::Aes128CmHmacSha1_80 => 2,
            Self::Aes128CmHmacSha1_32 => 3,
            Self::Aes256CmHmacSha1_80 => 4,
            Self::Aes256CmHmacSha1_32 => 5,
        }
    }

    /// Its registered name, in the spelling of metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::AeadAes128Gcm => "aead_aes_128_gcm",
            Self::AeadAes256Gcm => "aead_aes_256_gcm",
            Self::Aes128CmHmacSha1_80 => "aes128_cm_hmac_sha1_80",
            Self::Aes128CmHmacSha1_32 => "aes128_cm_hmac_sha1_32",
            Self::Aes256CmHmacSha1_80 => "aes256_cm_hmac_sha1_80",
            Self::Aes256CmHmacSha1_32 => "aes256_cm_hmac_sha1_32",
        }
    }

    /// Length of a master key, in bytes.
    #[must_use]
    pub const fn key_len(self) -> usize {
        match self {
            Self::AeadAes128Gcm | Self::Aes128CmHmacSha1_80 | Self::Aes128CmHmacSha1_32 => 16,
            Self::AeadAes256Gcm | Self::Aes256CmHmacSha1_80 | Self::Aes256CmHmacSha1_32 => 32,
        }
    }

    /// Length of a master salt, in bytes.
    #[must_use]
    pub const fn salt_len(self) -> usize {
        match self {
            Self::AeadAes128Gcm | Self::AeadAes256Gcm => 12,
            _ => 14,
        }
    }

    /// Length of the authentication tag of RTP, in bytes.
    #[must_use]
    pub const fn tag_len(self) -> usize {
        match self {
            Self::Aes128CmHmacSha1_32 | Self::Aes256CmHmacSha1_32 => 4,
            _ => self.rtcp_tag_len(),
        }
    }

    /// Length of the authentication tag of RTCP, in bytes; never short (RFC 4568, section 6.2.2).
    #[must_use]
    pub const fn rtcp_tag_len(self) -> usize {
        match self {
            Self::AeadAes128Gcm | Self::AeadAes256Gcm => 16,
            _ => 10,
        }
    }

    /// How many bytes to ask of the DTLS exporter: two keys and two salts (RFC 5764, section 4.2).
    #[must_use]
    pub const fn keying_material_len(self) -> usize {
        2 * (self.key_len() + self.salt_len())
    }
}

/// The master keys of both directions of one transport.
#[derive(Debug)]
pub struct KeyingMaterial {
    /// Protects what we send: for [`Sealer`](super::Sealer).
    pub local: MasterKey,
    /// Protects what the peer sends: for [`Opener`](super::Opener).
    pub remote: MasterKey,
}

impl KeyingMaterial {
    /// Splits what the DTLS exporter yields for the label `EXTRACTOR-dtls_srtp`:
    /// client key, server key, client salt, server salt (RFC 5764, section 4.2). `is_client` if we were the DTLS client.
    ///
    /// # Panics
    /// If `exported` is not [`Profile::keying_material_len`] bytes long.
    #[must_use]
    pub fn from_exporter(profile: Profile, exported: &[u8], is_client: bool) -> Self {
        assert_eq!(
            exported.len(),
            profile.keying_material_len(),
            "length of exported keying material"
        );
        let (keys, salts) = exported.split_at(2 * profile.key_len());
        let (client_key, server_key) = keys.split_at(profile.key_len());
        let (client_salt, server_salt) = salts.split_at(profile.salt_len());
        let client = MasterKey::new(profile, client_key, client_salt);
        let server = MasterKey::new(profile, server_key, server_salt);
        if is_client {
            Self {
                local: client,
                remote: server,
            }
        } else {
            Self {
                local: server,
                remote: client,
            }
        }
    }
}

/// Master key and master salt of one direction. Wiped when dropped, and `Debug` shows the profile only.
pub struct MasterKey {
    profile: Profile,
    /// The first [`Profile::key_len`] bytes count.
    key: Zeroizing<[u8; KEY_MAX]>,
    /// Zero beyond [`Profile::salt_len`].
    salt: Zeroizing<[u8; SALT_MAX]>,
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("MasterKey")
            .field("profile", &self.profile)
            .finish_non_exhaustive()
    }
}

impl MasterKey {
    /// # Panics
    /// If `key` or `salt` has not the length the profile asks for.
    #[must_use]
    pub fn new(profile: Profile, key: &[u8], salt: &[u8]) -> Self {
        assert_eq!(salt.len(), profile.salt_len(), "length of master salt");
        let mut master = Self {
            profile,
            key: Zeroizing::default(),
            salt: Zeroizing::default(),
        };
        master.key[..profile.key_len()].copy_from_slice(key);
        master.salt[..salt.len()].copy_from_slice(salt);
        master
    }

    /// The profile the key is for.
    #[must_use]
    pub fn profile(&self) -> Profile {
        self.profile
    }

    pub(super) fn rtp_session_keys(&self) -> SessionKeys {
        self.session_keys([0x00, 0x01, 0x02])
    }

    pub(super) fn rtcp_session_keys(&self) -> SessionKeys {
        self.session_keys([0x03, 0x04, 0x05])
    }

    /// Labels: encryption, authentication, salt (RFC 3711, section 4.3.2).
    fn session_keys(&self, [encryption, authentication, salt]: [u8; 3]) -> SessionKeys {
        let mut keys = SessionKeys {
            encryption: Zeroizing::default(),
            authentication: Zeroizing::default(),
            salt: Zeroizing::default(),
        };
        self.derive(encryption, &mut keys.encryption[..self.profile.key_len()]);
        self.derive(authentication, &mut keys.authentication[..]);
        self.derive(salt, &mut keys.salt[..self.profile.salt_len()]);
        keys
    }

    /// AES counter mode as pseudo-random function (RFC 3711, section 4.3.3; RFC 6188 for 256 bits), rate zero.
    fn derive(&self, label: u8, output: &mut [u8]) {
        let mut counter = [0; 16];
        counter[..SALT_MAX].copy_from_slice(&self.salt[..]);
        counter[7] ^= label;
        let key = &self.key[..self.profile.key_len()];
        output.fill(0);
        if key.len() == KEY_MAX {
            Ctr128BE::<Aes256>::new(key.into(), &counter.into()).apply_keystream(output);
        } else {
            Ctr128BE::<Aes128>::new(key.into(), &counter.into()).apply_keystream(output);
        }
    }
}

/// The session keys of RTP or RTCP in one direction; of each array the profile's length counts.
pub(super) struct SessionKeys {
    pub(super) encryption: Zeroizing<[u8; KEY_MAX]>,
    /// Unused by the AEAD profiles.
    pub(super) authentication: Zeroizing<[u8; AUTHENTICATION_KEY]>,
    pub(super) salt: Zeroizing<[u8; SALT_MAX]>,
}
