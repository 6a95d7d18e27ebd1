//! Byte for byte the same as `rtc-srtp`, and each opens what the other sealed.

use proptest::collection::vec;
use proptest::prelude::*;
use rtc_srtp::context::Context;
use rtc_srtp::option::{srtcp_replay_protection, srtp_replay_protection};
use rtc_srtp::protection_profile::ProtectionProfile;

use super::super::*;

const SSRC: u32 = 0x1234_5678;

/// Master key and salt, long enough for every profile.
type Secret = [u8; 46];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn oracle_opens_rtp_we_seal(
        profile in profile(),
        secret in any::<Secret>(),
        indices in packet_indices(),
        bodies in vec(rtp_body(), 40),
    ) {
        let sealer = Sealer::new(&master_key(profile, &secret));
        let mut twin = oracle(profile, &secret);
        let mut opener = oracle(profile, &secret);
        for (index, body) in indices.into_iter().zip(bodies) {
            let (packet, header_len) = body.packet(index);
            let sealed = seal_both_ways(&sealer, index, header_len, &packet, body.shared_len());
            prop_assert_eq!(&twin.encrypt_rtp(&packet).unwrap()[..], &sealed);
            prop_assert_eq!(&opener.decrypt_rtp(&sealed).unwrap()[..], &packet);
        }
    }

    #[test]
    fn we_open_rtp_the_oracle_seals(
        profile in profile(),
        secret in any::<Secret>(),
        indices in packet_indices(),
        bodies in vec(rtp_body(), 40),
    ) {
        let mut sealer = oracle(profile, &secret);
        let opener = Opener::new(&master_key(profile, &secret));
        let mut stream = ReceiveIndex::default();
        let mut highest = 0;
        for (index, body) in indices.into_iter().zip(bodies) {
            let (packet, header_len) = body.packet(index);
            let sealed = sealer.encrypt_rtp(&packet).unwrap().to_vec();
            let mut received = sealed.clone();
            let len = opener.open_rtp(&mut stream, header_len, &mut received).unwrap();
            prop_assert_eq!(&received[..len], &packet);
            highest = highest.max(index);
            prop_assert_eq!(stream.highest(), Some(highest));
            let again = opener.open_rtp(&mut stream, header_len, &mut sealed.clone());
            prop_assert_eq!(again, Err(OpenError::Replayed));
        }
    }

    #[test]
    fn oracle_opens_rtcp_we_seal(
        profile in profile(),
        secret in any::<Secret>(),
        packets in vec(rtcp_packet(0..4), 1..20),
    ) {
        let mut sealer = Sealer::new(&master_key(profile, &secret));
        let mut opener = oracle(profile, &secret);
        for packet in packets {
            let mut sealed = packet.clone();
            sealer.seal_rtcp(&mut sealed).unwrap();
            prop_assert_eq!(sealed.len(), packet.len() + sealer.rtcp_overhead());
            prop_assert_eq!(&opener.decrypt_rtcp(&sealed).unwrap()[..], &packet);
        }
    }

    #[test]
    fn rtcp_is_identical_to_that_of_the_oracle(
        profile in profile(),
        secret in any::<Secret>(),
        packets in vec(rtcp_packet(0..1), 1..10),
    ) {
        let mut sealer = Sealer::new(&master_key(profile, &secret));
        // The oracle counts from one.
        sealer.seal_rtcp(&mut packets[0].clone()).unwrap();
        let mut twin = oracle(profile, &secret);
        for packet in packets {
            let mut sealed = packet.clone();
            sealer.seal_rtcp(&mut sealed).unwrap();
            prop_assert_eq!(&twin.encrypt_rtcp(&packet).unwrap()[..], &sealed);
        }
    }

    #[test]
    fn we_open_rtcp_the_oracle_seals(
        profile in profile(),
        secret in any::<Secret>(),
        packets in vec(rtcp_packet(0..4), 1..20),
    ) {
        let mut sealer = oracle(profile, &secret);
        let mut opener = Opener::new(&master_key(profile, &secret));
        for packet in packets {
            let sealed = sealer.encrypt_rtcp(&packet).unwrap().to_vec();
            let mut received = sealed.clone();
            let len = opener.open_rtcp(&mut received).unwrap();
            prop_assert_eq!(&received[..len], &packet);
            prop_assert_eq!(opener.open_rtcp(&mut sealed.clone()), Err(OpenError::Replayed));
        }
    }
}

/// Seals in place and from a shared tail of the payload, and wants the same of both.
fn seal_both_ways(
    sealer: &Sealer,
    index: u64,
    header_len: usize,
    packet: &[u8],
    shared_len: usize,
) -> Vec<u8> {
    let mut in_place = packet.to_vec();
    in_place.resize(packet.len() + sealer.rtp_overhead(), 0);
    sealer.seal_rtp(index, SSRC, header_len, &mut in_place);

    let (front, tail) = packet.split_at(packet.len() - shared_len);
    let mut gathered = front.to_vec();
    gathered.resize(packet.len() + sealer.rtp_overhead(), 0xee);
    sealer.seal_rtp_from(index, SSRC, header_len, tail, &mut gathered);
    assert_eq!(gathered, in_place);
    in_place
}

fn profile() -> impl Strategy<Value = Profile> {
    prop::sample::select(Profile::ALL.to_vec())
}

fn master_key(profile: Profile, secret: &Secret) -> MasterKey {
    let (key, salt) = split(profile, secret);
    MasterKey::new(profile, key, salt)
}

fn oracle(profile: Profile, secret: &Secret) -> Context {
    let (key, salt) = split(profile, secret);
    let profile = match profile {
        Profile::AeadAes128Gcm => ProtectionProfile::AeadAes128Gcm,
        Profile::AeadAes256Gcm => ProtectionProfile::AeadAes256Gcm,
        Profile::Aes128CmHmacSha1_80 => ProtectionProfile::Aes128CmHmacSha1_80,
        Profile::Aes128CmHmacSha1_32 => ProtectionProfile::Aes128CmHmacSha1_32,
        Profile::Aes256CmHmacSha1_80 => ProtectionProfile::Aes256CmHmacSha1_80,
        Profile::Aes256CmHmacSha1_32 => ProtectionProfile::Aes256CmHmacSha1_32,
    };
    let provider = rtc_srtp::crypto::default_provider().unwrap();
    let rtp = Some(srtp_replay_protection(128));
    let rtcp = Some(srtcp_replay_protection(128));
    Context::new(key, salt, profile, rtp, rtcp, provider.crypto()).unwrap()
}

fn split(profile: Profile, secret: &Secret) -> (&[u8], &[u8]) {
    let (key, rest) = secret.split_at(profile.key_len());
    (key, &rest[..profile.salt_len()])
}

/// At least forty different packet indices from roll-over counter zero on: steps short and just below half the number
/// space, so that several roll-overs pass, and neighbours out of order.
fn packet_indices() -> impl Strategy<Value = Vec<u64>> {
    let step = prop_oneof![2..4_u64, 0x6000..0x7f00_u64];
    (any::<u16>(), vec((step, any::<bool>()), 40)).prop_map(|(first, steps)| {
        let mut index = u64::from(first);
        let mut indices = vec![index];
        for (step, swap) in steps {
            index += step;
            indices.push(index);
            if swap {
                indices.push(index - 1);
            }
        }
        indices
    })
}

#[derive(Clone, Debug)]
struct RtpBody {
    padding: bool,
    csrcs: Vec<u32>,
    extension: Option<Vec<u8>>,
    payload: Vec<u8>,
    /// How much of the payload's end all subscribers have in common, as a share of 255.
    shared: u8,
}

impl RtpBody {
    /// The packet and the length of its header, both in bytes.
    fn packet(&self, index: u64) -> (Vec<u8>, usize) {
        let flags = 0x80
            | u8::from(self.padding) << 5
            | u8::from(self.extension.is_some()) << 4
            | self.csrcs.len() as u8;
        let mut packet = vec![flags, 96];
        packet.extend((index as u16).to_be_bytes());
        packet.extend(0x0102_0304_u32.to_be_bytes());
        packet.extend(SSRC.to_be_bytes());
        packet.extend(self.csrcs.iter().flat_map(|csrc| csrc.to_be_bytes()));
        packet.extend(self.extension.iter().flatten());
        let header_len = packet.len();
        packet.extend(&self.payload);
        if self.padding {
            packet.extend([0, 0, 3]);
        }
        (packet, header_len)
    }

    fn shared_len(&self) -> usize {
        self.payload.len() * usize::from(self.shared) / 255
    }
}

fn rtp_body() -> impl Strategy<Value = RtpBody> {
    let payload = prop_oneof![vec(any::<u8>(), 0..40), vec(any::<u8>(), 1000..1300)];
    let shared = prop_oneof![Just(0), Just(255), any::<u8>()];
    let csrcs = prop_oneof![Just(vec![]), vec(any::<u32>(), 0..=15)];
    (any::<bool>(), csrcs, extension(), payload, shared).prop_map(
        |(padding, csrcs, extension, payload, shared)| RtpBody {
            padding,
            csrcs,
            extension,
            payload,
            shared,
        },
    )
}

/// No extension, or one of the forms of RFC 8285, or of another profile (RFC 3550, section 5.3.1).
fn extension() -> impl Strategy<Value = Option<Vec<u8>>> {
    let one_byte = vec((1..=14_u8, vec(any::<u8>(), 1..=16)), 1..4).prop_map(|elements| {
        let bytes = elements.into_iter().flat_map(|(id, data)| {
            let head = id << 4 | (data.len() as u8 - 1);
            std::iter::once(head).chain(data)
        });
        extension_block(0xbede, bytes.collect())
    });
    let two_byte = vec((1..=255_u8, vec(any::<u8>(), 0..=30)), 1..4).prop_map(|elements| {
        let bytes = elements
            .into_iter()
            .flat_map(|(id, data)| [id, data.len() as u8].into_iter().chain(data));
        extension_block(0x1000, bytes.collect())
    });
    let other = vec(any::<u8>(), 0..5).prop_map(|words| extension_block(0x4242, words.repeat(4)));
    prop_oneof![
        Just(None),
        one_byte.prop_map(Some),
        two_byte.prop_map(Some),
        other.prop_map(Some)
    ]
}

fn extension_block(profile: u16, mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    let words = (bytes.len() / 4) as u16;
    let head = [profile.to_be_bytes(), words.to_be_bytes()].concat();
    [head, bytes].concat()
}

fn rtcp_packet(senders: std::ops::Range<u32>) -> impl Strategy<Value = Vec<u8>> {
    (senders, 200..=206_u8, vec(any::<u8>(), 0..60)).prop_map(|(sender, packet_type, words)| {
        let words_after_first = words.len() as u16 + 1;
        let mut packet = vec![0x81, packet_type];
        packet.extend(words_after_first.to_be_bytes());
        packet.extend((SSRC + sender).to_be_bytes());
        packet.extend(words.repeat(4));
        packet
    })
}
