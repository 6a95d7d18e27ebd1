//! Opening and sealing by profile, beside the bare cipher of `aws-lc-rs` on the same bytes.

use std::hint::black_box;

use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, Algorithm, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::cipher::{
    AES_128, DecryptingKey, DecryptionContext, EncryptingKey, EncryptionContext, UnboundCipherKey,
};
use aws_lc_rs::hmac;
use aws_lc_rs::iv::FixedLength;
use criterion::{BenchmarkId, Criterion};
use sfu::engine::srtp::{MasterKey, Opener, Profile, ReceiveIndex, Sealer};

use super::PACKET_LEN;
use super::beside::Table;

const PROFILES: [(Profile, &str); 3] = [
    (Profile::AeadAes128Gcm, "AEAD_AES_128_GCM"),
    (Profile::AeadAes256Gcm, "AEAD_AES_256_GCM"),
    (Profile::Aes128CmHmacSha1_80, "AES_CM_128_HMAC_SHA1_80"),
];

const HEADER_LEN: usize = 12;
const TAG_LEN: usize = 16;

pub(super) fn run(criterion: &mut Criterion, table: &mut Table) {
    let mut group = criterion.benchmark_group("srtp");
    for (profile, name) in PROFILES {
        let key = master_key(profile);
        let (sealer, opener) = (Sealer::new(&key), Opener::new(&key));
        let mut plain = packet();
        plain.resize(PACKET_LEN + sealer.rtp_overhead(), 0);
        let mut sealed = plain.clone();
        sealer.seal_rtp(9, 7, HEADER_LEN, &mut sealed);
        let mut work = plain.clone();
        let mut seal = || sealer.seal_rtp(9, 7, HEADER_LEN, black_box(&mut work));
        group.bench_function(BenchmarkId::new("seal", name), |bencher| {
            bencher.iter(&mut seal);
        });
        let bare = Bare::new(profile);
        let mut bare_work = packet();
        table.measure(&format!("srtp/seal/{name}"), bare.name(), seal, || {
            bare.seal(&mut bare_work);
        });

        let mut work = sealed.clone();
        let mut open = || {
            work.copy_from_slice(&sealed);
            let mut index = ReceiveIndex::default();
            let opened = opener.open_rtp(&mut index, HEADER_LEN, black_box(&mut work));
            opened.expect("sealed above with the same key");
        };
        group.bench_function(BenchmarkId::new("open", name), |bencher| {
            bencher.iter(&mut open);
        });
        let mut bare_sealed = packet();
        let tag = bare.seal(&mut bare_sealed);
        bare_sealed.extend_from_slice(&tag);
        let mut bare_work = bare_sealed.clone();
        table.measure(&format!("srtp/open/{name}"), bare.name(), open, || {
            bare_work.copy_from_slice(&bare_sealed);
            bare.open(&mut bare_work);
        });
    }
    group.finish();
}

fn master_key(profile: Profile) -> MasterKey {
    MasterKey::new(
        profile,
        &[1; 32][..profile.key_len()],
        &[2; 14][..profile.salt_len()],
    )
}

pub(super) fn packet() -> Vec<u8> {
    let mut packet = vec![0x5a; PACKET_LEN];
    packet[0] = 0x80;
    packet[1] = 96;
    packet[2..4].copy_from_slice(&9u16.to_be_bytes());
    packet[8..HEADER_LEN].copy_from_slice(&7u32.to_be_bytes());
    packet
}

/// Nothing but the cipher.
pub(super) struct Bare(Cipher);

enum Cipher {
    Gcm(Box<LessSafeKey>),
    CounterMode(Box<CounterMode>),
}

struct CounterMode {
    encrypt: EncryptingKey,
    decrypt: DecryptingKey,
    authenticate: hmac::Key,
}

impl Bare {
    pub(super) fn new(profile: Profile) -> Self {
        let gcm = |algorithm: &'static Algorithm| {
            let key = UnboundKey::new(algorithm, &[1; 32][..algorithm.key_len()]);
            Cipher::Gcm(Box::new(LessSafeKey::new(
                key.expect("of the right length"),
            )))
        };
        let key = || UnboundCipherKey::new(&AES_128, &[1; 16]).expect("of the right length");
        Self(match profile {
            Profile::AeadAes128Gcm => gcm(&AES_128_GCM),
            Profile::AeadAes256Gcm => gcm(&AES_256_GCM),
            _ => Cipher::CounterMode(Box::new(CounterMode {
                encrypt: EncryptingKey::ctr(key()).expect("the cipher has the mode"),
                decrypt: DecryptingKey::ctr(key()).expect("the cipher has the mode"),
                authenticate: hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &[3; 20]),
            })),
        })
    }

    fn name(&self) -> &'static str {
        match self.0 {
            Cipher::Gcm(_) => "aws-lc-rs AES-GCM of the same bytes",
            Cipher::CounterMode(_) => "aws-lc-rs AES-CTR and HMAC-SHA1 of the same bytes",
        }
    }

    /// Seals a packet in place and returns the tag.
    pub(super) fn seal(&self, packet: &mut [u8]) -> [u8; TAG_LEN] {
        let mut tag = [0; TAG_LEN];
        let (header, payload) = packet.split_at_mut(HEADER_LEN);
        match &self.0 {
            Cipher::Gcm(key) => {
                let nonce = Nonce::assume_unique_for_key([2; 12]);
                let made =
                    key.seal_in_place_separate_tag(nonce, Aad::from(&*header), black_box(payload));
                tag.copy_from_slice(made.expect("short enough").as_ref());
            }
            Cipher::CounterMode(keys) => {
                let vector = EncryptionContext::Iv128(FixedLength::from([2; 16]));
                keys.encrypt
                    .less_safe_encrypt(black_box(payload), vector)
                    .expect("a stream cipher takes any length");
                let made = hmac::sign(&keys.authenticate, packet);
                tag[..10].copy_from_slice(&made.as_ref()[..10]);
            }
        }
        black_box(tag)
    }

    /// Opens a packet with its tag in place.
    fn open(&self, packet: &mut [u8]) {
        match &self.0 {
            Cipher::Gcm(key) => {
                let (header, payload) = packet.split_at_mut(HEADER_LEN);
                let nonce = Nonce::assume_unique_for_key([2; 12]);
                let opened = key.open_in_place(nonce, Aad::from(&*header), black_box(payload));
                opened.expect("sealed with the same key");
            }
            Cipher::CounterMode(keys) => {
                let (message, tag) = packet.split_at_mut(PACKET_LEN);
                let made = hmac::sign(&keys.authenticate, message);
                assert_eq!(made.as_ref()[..10], tag[..10]);
                let vector = DecryptionContext::Iv128(FixedLength::from([2; 16]));
                let payload = black_box(&mut message[HEADER_LEN..]);
                let opened = keys.decrypt.decrypt(payload, vector);
                opened.expect("a stream cipher takes any length");
            }
        }
    }
}
