//! The two ciphers: AES-GCM (RFC 7714), and AES counter mode with HMAC-SHA1 (RFC 3711, sections 4.1.1 and 4.2.1;
//! RFC 6188 for keys of 256 bits).
//!
//! Both number RTP and RTCP packets alike: an SRTCP index is a packet index below 2^31.

use aes::cipher::{
    BlockCipher, BlockEncryptMut, BlockSizeUser, InnerIvInit, KeyInit, StreamCipher,
    StreamCipherCoreWrapper, consts::U16,
};
use aes::{Aes128, Aes256};
use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ctr::Ctr128BE;
use hmac::{Hmac, Mac};
use sha1::Sha1;

use super::keys::{Profile, SessionKeys};

/// Length of the tag of AES-GCM, in bytes.
pub(super) const GCM_TAG: usize = 16;

/// Length of the truncated tag of HMAC-SHA1, in bytes, but for the short one of RTP in some profiles.
pub(super) const HMAC_TAG: usize = 10;

/// Why no input of ours can make aws-lc refuse to seal.
const SEALS: &str = "AES-GCM seals every packet that fits a datagram";

/// One keyed cipher, for RTP or RTCP in one direction.
pub(super) enum Transform {
    Gcm(Gcm),
    /// Boxed: twenty times as large as the other, which keeps its key behind a pointer too.
    CounterMode(Box<CounterMode>),
}

impl Transform {
    pub(super) fn rtp(profile: Profile, keys: &SessionKeys) -> Self {
        Self::new(profile, keys, profile.tag_len())
    }

    pub(super) fn rtcp(profile: Profile, keys: &SessionKeys) -> Self {
        Self::new(profile, keys, profile.rtcp_tag_len())
    }

    fn new(profile: Profile, keys: &SessionKeys, tag_len: usize) -> Self {
        match profile {
            Profile::AeadAes128Gcm | Profile::AeadAes256Gcm => Self::Gcm(Gcm::new(profile, keys)),
            _ => Self::CounterMode(Box::new(CounterMode::new(profile, keys, tag_len))),
        }
    }

    pub(super) const fn tag_len(&self) -> usize {
        match self {
            Self::Gcm(_) => GCM_TAG,
            Self::CounterMode(counter_mode) => counter_mode.tag_len,
        }
    }
}

pub(super) struct Gcm {
    key: LessSafeKey,
    salt: [u8; 12],
}

impl Gcm {
    fn new(profile: Profile, keys: &SessionKeys) -> Self {
        let algorithm = if profile == Profile::AeadAes256Gcm {
            &AES_256_GCM
        } else {
            &AES_128_GCM
        };
        let key = UnboundKey::new(algorithm, &keys.encryption[..profile.key_len()])
            .expect("the key has the length of its algorithm");
        let mut salt = [0; 12];
        salt.copy_from_slice(&keys.salt[..12]);
        Self {
            key: LessSafeKey::new(key),
            salt,
        }
    }

    /// Two zero bytes, SSRC, packet index; XOR salt (RFC 7714, sections 8.1 and 9.1).
    fn nonce(&self, ssrc: u32, index: u64) -> Nonce {
        let mut nonce = [0; 12];
        nonce[2..6].copy_from_slice(&ssrc.to_be_bytes());
        nonce[6..].copy_from_slice(&index.to_be_bytes()[2..]);
        for (byte, salt) in nonce.iter_mut().zip(self.salt) {
            *byte ^= salt;
        }
        Nonce::assume_unique_for_key(nonce)
    }

    pub(super) fn seal(
        &self,
        ssrc: u32,
        index: u64,
        clear: &[u8],
        text: &mut [u8],
    ) -> [u8; GCM_TAG] {
        let tag = self
            .key
            .seal_in_place_separate_tag(self.nonce(ssrc, index), Aad::from(clear), text)
            .expect(SEALS);
        tag.as_ref()
            .try_into()
            .expect("the tag of AES-GCM has 16 bytes")
    }

    /// Seals `start` in place and `end` out of place: `output` is as long as `end` and a tag.
    pub(super) fn seal_gather(
        &self,
        ssrc: u32,
        index: u64,
        clear: &[u8],
        start: &mut [u8],
        end: &[u8],
        output: &mut [u8],
    ) {
        let nonce = self.nonce(ssrc, index);
        if start.is_empty() {
            let (text, tag) = output.split_at_mut(end.len());
            self.key
                .seal_out_of_place_scatter(nonce, Aad::from(clear), end, text, &[], tag)
        } else {
            self.key
                .seal_in_place_scatter(nonce, Aad::from(clear), start, end, output)
        }
        .expect(SEALS);
    }

    /// Opens `text_and_tag` in place; false, with the text lost, unless it is authentic.
    #[must_use]
    pub(super) fn open(
        &self,
        ssrc: u32,
        index: u64,
        clear: &[u8],
        text_and_tag: &mut [u8],
    ) -> bool {
        self.key
            .open_in_place(self.nonce(ssrc, index), Aad::from(clear), text_and_tag)
            .is_ok()
    }
}

pub(super) struct CounterMode {
    /// Expanded once, then only borrowed.
    cipher: Cipher,
    tag_len: usize,
    /// Keyed: the inner and outer pads are hashed already, a clone starts from there.
    authenticator: Hmac<Sha1>,
    salt: [u8; 14],
}

#[expect(
    clippy::large_enum_variant,
    reason = "where it is kept is behind a pointer already"
)]
enum Cipher {
    Aes128(Aes128),
    Aes256(Aes256),
}

impl CounterMode {
    fn new(profile: Profile, keys: &SessionKeys, tag_len: usize) -> Self {
        let key = &keys.encryption[..profile.key_len()];
        Self {
            cipher: match key.len() {
                16 => Cipher::Aes128(Aes128::new(key.into())),
                _ => Cipher::Aes256(Aes256::new(key.into())),
            },
            tag_len,
            authenticator: <Hmac<Sha1> as Mac>::new_from_slice(&keys.authentication[..])
                .expect("HMAC takes keys of any length"),
            salt: *keys.salt,
        }
    }

    /// Encrypts or decrypts in place: `IV = salt·2^16 XOR SSRC·2^64 XOR index·2^16` (RFC 3711, section 4.1.1).
    pub(super) fn apply_keystream(&self, ssrc: u32, index: u64, text: &mut [u8]) {
        let mut counter = [0; 16];
        counter[4..8].copy_from_slice(&ssrc.to_be_bytes());
        counter[8..14].copy_from_slice(&index.to_be_bytes()[2..]);
        for (byte, salt) in counter.iter_mut().zip(self.salt) {
            *byte ^= salt;
        }
        match &self.cipher {
            Cipher::Aes128(cipher) => apply_keystream(cipher, counter, text),
            Cipher::Aes256(cipher) => apply_keystream(cipher, counter, text),
        }
    }

    /// The tag of a packet and the word that follows it: for RTP the roll-over counter, which is not sent, and for
    /// RTCP the index word, which is (RFC 3711, section 4.2). Only the first [`Transform::tag_len`] bytes are sent.
    pub(super) fn tag(&self, packet: &[u8], word: u32) -> [u8; HMAC_TAG] {
        let full = self.authenticate(packet, word).finalize().into_bytes();
        let mut tag = [0; HMAC_TAG];
        tag.copy_from_slice(&full[..HMAC_TAG]);
        tag
    }

    /// Compares in constant time.
    #[must_use]
    pub(super) fn verify(&self, packet: &[u8], word: u32, tag: &[u8]) -> bool {
        debug_assert_eq!(tag.len(), self.tag_len);
        self.authenticate(packet, word)
            .verify_truncated_left(tag)
            .is_ok()
    }

    fn authenticate(&self, packet: &[u8], word: u32) -> Hmac<Sha1> {
        let mut authenticator = self.authenticator.clone();
        authenticator.update(packet);
        authenticator.update(&word.to_be_bytes());
        authenticator
    }
}

fn apply_keystream<C>(cipher: &C, counter: [u8; 16], text: &mut [u8])
where
    C: BlockCipher + BlockSizeUser<BlockSize = U16>,
    for<'a> &'a C: BlockEncryptMut + BlockCipher + BlockSizeUser<BlockSize = U16>,
{
    let core = ctr::CtrCore::inner_iv_init(cipher, &counter.into());
    let mut keystream: Ctr128BE<&C> = StreamCipherCoreWrapper::from_core(core);
    keystream.apply_keystream(text);
}

#[cfg(test)]
mod tests {
    use super::super::keys::MasterKey;
    use super::*;

    // The vectors of the standards and the oracle only reach small roll-over counters.
    #[test]
    fn nonce_holds_all_48_bits_of_the_packet_index() {
        let profile = Profile::AeadAes128Gcm;
        let mut keys = MasterKey::new(profile, &[1; 16], &[2; 12]).rtp_session_keys();
        keys.salt.fill(0);
        let nonce = Gcm::new(profile, &keys).nonce(0xa1a2_a3a4, 0x1112_1314_1516);
        assert_eq!(
            nonce.as_ref()[..],
            [
                0, 0, 0xa1, 0xa2, 0xa3, 0xa4, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16
            ]
        );
    }
}
