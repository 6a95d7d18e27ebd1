//! What a stranger on the path, or a peer with the right keys and bad intentions, can do: nothing that lasts.

use proptest::collection::vec;
use proptest::prelude::*;

use super::super::seal::RTCP_PACKETS_MAX;
use super::super::*;

const SSRC: u32 = 0xcafe_babe;
const HEADER: usize = 12;

#[test]
fn flood_with_a_wrong_key_changes_nothing() {
    for profile in Profile::ALL {
        let sealer = Sealer::new(&master_key(profile, 1));
        let stranger = Sealer::new(&master_key(profile, 2));
        let opener = Opener::new(&master_key(profile, 1));
        let mut stream = ReceiveIndex::default();
        for index in (0..0x30_0000).step_by(0x1357) {
            let forged = opener.open_rtp(&mut stream, HEADER, &mut rtp(&stranger, index));
            assert_eq!(forged, Err(OpenError::Unauthentic));
        }
        assert_eq!(stream, ReceiveIndex::default());

        open(&opener, &mut stream, rtp(&sealer, 0xfff0)).unwrap();
        let before = stream.clone();
        for index in (0..0x30_0000).step_by(0x1357) {
            open(&opener, &mut stream, rtp(&stranger, index)).unwrap_err();
        }
        assert_eq!(stream, before);
        open(&opener, &mut stream, rtp(&sealer, 0x1_0001)).unwrap();
    }
}

#[test]
fn packet_of_another_roll_over_is_not_authentic() {
    for profile in Profile::ALL {
        let sealer = Sealer::new(&master_key(profile, 1));
        let opener = Opener::new(&master_key(profile, 1));
        let mut stream = ReceiveIndex::default();
        open(&opener, &mut stream, rtp(&sealer, 0x1000)).unwrap();
        let before = stream.clone();
        assert_eq!(
            open(&opener, &mut stream, rtp(&sealer, 0x1_1001)),
            Err(OpenError::Unauthentic)
        );
        assert_eq!(stream, before);
    }
}

#[test]
fn packets_open_once_and_only_within_the_window() {
    for profile in Profile::ALL {
        let sealer = Sealer::new(&master_key(profile, 1));
        let opener = Opener::new(&master_key(profile, 1));
        let mut stream = ReceiveIndex::default();
        open(&opener, &mut stream, rtp(&sealer, 0x1_0000 - 600)).unwrap();
        open(&opener, &mut stream, rtp(&sealer, 0x1_0000 + 500)).unwrap();
        let mut check = |index, expected| {
            assert_eq!(open(&opener, &mut stream, rtp(&sealer, index)), expected);
        };
        check(0x1_0000 - 600, Err(OpenError::TooOld));
        check(0x1_0000 - 523, Ok(()));
        check(0x1_0000 - 523, Err(OpenError::Replayed));
        check(0x1_0000 - 524, Err(OpenError::TooOld));
        check(0x1_0000 + 500, Err(OpenError::Replayed));
        check(0x1_0000 + 499, Ok(()));
    }
}

#[test]
fn shorter_than_header_and_tag_is_too_short() {
    for profile in Profile::ALL {
        let mut opener = Opener::new(&master_key(profile, 1));
        let mut stream = ReceiveIndex::default();
        let rtp_min = HEADER + profile.tag_len();
        for header_len in [0, HEADER] {
            let mut packet = vec![0x80; rtp_min - 1];
            let opened = opener.open_rtp(&mut stream, header_len, &mut packet);
            assert_eq!(opened, Err(OpenError::TooShort));
            packet.push(0);
            let opened = opener.open_rtp(&mut stream, header_len, &mut packet);
            assert_eq!(opened, Err(OpenError::Unauthentic));
            let opened = opener.open_rtp(&mut stream, header_len + HEADER + 1, &mut packet);
            assert_eq!(opened, Err(OpenError::TooShort));
        }
        let mut packet = vec![0x80; 8 + 4 + profile.rtcp_tag_len() - 1];
        assert_eq!(opener.open_rtcp(&mut packet), Err(OpenError::TooShort));
        packet.push(0x80);
        assert_eq!(opener.open_rtcp(&mut packet), Err(OpenError::Unauthentic));
    }
}

#[test]
fn rtcp_senders_are_limited_and_the_latest_kept() {
    let profile = Profile::AeadAes128Gcm;
    let mut sealer = Sealer::new(&master_key(profile, 1));
    let mut opener = Opener::new(&master_key(profile, 1));
    let senders = 3 * MAX_RTCP_SENDERS as u32;
    let mut sealed = Vec::new();
    for ssrc in 0..senders {
        sealed.push(rtcp(&mut sealer, ssrc));
        opener
            .open_rtcp(&mut sealed[ssrc as usize].clone())
            .unwrap();
    }
    assert_eq!(opener.rtcp_sender_count(), MAX_RTCP_SENDERS);
    for packet in &sealed[senders as usize - MAX_RTCP_SENDERS..] {
        assert_eq!(
            opener.open_rtcp(&mut packet.clone()),
            Err(OpenError::Replayed)
        );
    }
}

#[test]
fn forged_rtcp_senders_leave_no_trace() {
    let profile = Profile::Aes128CmHmacSha1_80;
    let mut stranger = Sealer::new(&master_key(profile, 2));
    let mut opener = Opener::new(&master_key(profile, 1));
    for ssrc in 0..1000 {
        let forged = opener.open_rtcp(&mut rtcp(&mut stranger, ssrc));
        assert_eq!(forged, Err(OpenError::Unauthentic));
    }
    assert_eq!(opener.rtcp_sender_count(), 0);
}

#[test]
fn rtcp_index_never_wraps() {
    let master = master_key(Profile::AeadAes128Gcm, 1);
    let keys = master.rtcp_session_keys();
    let mut sealer = Sealer::with_session_keys(Profile::AeadAes128Gcm, &keys, RTCP_PACKETS_MAX - 1);
    let mut last = rtcp(&mut sealer, SSRC);
    let mut opener = Opener::with_session_keys(Profile::AeadAes128Gcm, &keys);
    opener.open_rtcp(&mut last).unwrap();

    let mut packet = vec![0x80, 201, 0, 1, 0, 0, 0, 1];
    let before = packet.clone();
    assert_eq!(sealer.seal_rtcp(&mut packet), Err(SealError::KeyExhausted));
    assert_eq!(packet, before);
}

#[test]
fn rtcp_without_a_sender_is_not_sealed() {
    let mut sealer = Sealer::new(&master_key(Profile::AeadAes128Gcm, 1));
    let mut packet = vec![0x80, 201, 0, 1, 0, 0, 0];
    assert_eq!(sealer.seal_rtcp(&mut packet), Err(SealError::TooShort(7)));
}

proptest! {
    #[test]
    fn no_input_panics(bytes in vec(any::<u8>(), 0..120), header_len in 0_usize..200) {
        for profile in Profile::ALL {
            let mut opener = Opener::new(&master_key(profile, 1));
            let mut stream = ReceiveIndex::default();
            prop_assert!(opener.open_rtp(&mut stream, header_len, &mut bytes.clone()).is_err());
            prop_assert!(opener.open_rtcp(&mut bytes.clone()).is_err());
        }
    }

    #[test]
    fn one_flipped_bit_is_noticed(at in any::<prop::sample::Index>(), bit in 0_u8..8) {
        for profile in Profile::ALL {
            let mut sealer = Sealer::new(&master_key(profile, 1));
            let mut opener = Opener::new(&master_key(profile, 1));
            let mut stream = ReceiveIndex::default();
            let mut packet = rtp(&sealer, 7);
            packet[at.index(HEADER + 20 + profile.tag_len())] ^= 1_u8 << bit;
            prop_assert_eq!(open(&opener, &mut stream, packet), Err(OpenError::Unauthentic));
            let mut packet = rtcp(&mut sealer, SSRC);
            let len = packet.len();
            packet[at.index(len)] ^= 1_u8 << bit;
            prop_assert_eq!(opener.open_rtcp(&mut packet), Err(OpenError::Unauthentic));
        }
    }
}

fn master_key(profile: Profile, seed: u8) -> MasterKey {
    let key = vec![seed; profile.key_len()];
    let salt = vec![!seed; profile.salt_len()];
    MasterKey::new(profile, &key, &salt)
}

fn rtp(sealer: &Sealer, index: u64) -> Vec<u8> {
    let mut packet = vec![0x80, 111];
    packet.extend((index as u16).to_be_bytes());
    packet.extend([0; 4]);
    packet.extend(SSRC.to_be_bytes());
    packet.resize(HEADER + 20 + sealer.rtp_overhead(), 0xab);
    sealer.seal_rtp(index, SSRC, HEADER, &mut packet);
    packet
}

fn rtcp(sealer: &mut Sealer, ssrc: u32) -> Vec<u8> {
    let mut packet = vec![0x80, 206, 0, 3];
    packet.extend(ssrc.to_be_bytes());
    packet.extend([0xab; 8]);
    sealer.seal_rtcp(&mut packet).unwrap();
    packet
}

fn open(opener: &Opener, stream: &mut ReceiveIndex, mut packet: Vec<u8>) -> Result<(), OpenError> {
    let len = opener.open_rtp(stream, HEADER, &mut packet)?;
    assert_eq!(packet[HEADER..len], [0xab; 20]);
    Ok(())
}
