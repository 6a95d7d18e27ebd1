//! RFC 3711, appendix B; RFC 7714, sections 16 and 17.

use zeroize::Zeroizing;

use super::super::keys::SessionKeys;
use super::super::transform::Transform;
use super::super::*;

const RTP: &str = "8040f17b 8041f8d3 5501a0b2 47616c6c 69612065 7374206f 6d6e6973 20646976
                   69736120 696e2070 61727465 73207472 6573";

const RTP_SEALED_128: &str = "8040f17b 8041f8d3 5501a0b2 f24de3a3 fb34de6c acba861c 9d7e4bca be633bd5
                              0d294e6f 42a5f47a 51c7d19b 36de3adf 8833899d 7f27beb1 6a9152cf 765ee439 0cce";

const RTP_SEALED_256: &str = "8040f17b 8041f8d3 5501a0b2 32b1de78 a822fe12 ef9f78fa 332e33aa b1801238
                              9a58e2f3 b50b2a02 76ffae0f 1ba63799 b87b7aa3 db36dfff d6b0f9bb 7878d7a7 6c13";

const RTCP: &str = "81c8000d 4d617273 4e545031 4e545032 52545020 0000042a 0000e930 4c756e61
                    deadbeef deadbeef deadbeef deadbeef deadbeef";

const RTCP_SEALED_128: &str = "81c8000d 4d617273 63e94885 dcdab67c a727d766 2f6b7e99 7ff5c0f7 6c06f32d
                               c676a5f1 730d6fda 4ce09b46 86303ded 0bb9275b c84aa458 96cf4d2f c5abf872
                               45d9eade 800005d4";

const RTCP_SEALED_256: &str = "81c8000d 4d617273 d50ae4d1 f5ce5d30 4ba297e4 7d470c28 2c3ece5d bffe0a50
                               a2eaa5c1 110555be 8415f658 c61de047 6f1b6fad 1d1eb30c 4446839f 57ff6f6c
                               b26ac3be 800005d4";

const RTCP_INDEX: u32 = 0x5d4;

#[test]
fn rtp_seals_as_in_rfc_7714_section_16() {
    check_rtp(Profile::AeadAes128Gcm, RTP_SEALED_128);
    check_rtp(Profile::AeadAes256Gcm, RTP_SEALED_256);
}

#[track_caller]
fn check_rtp(profile: Profile, sealed: &str) {
    let keys = rfc_7714_keys();
    let mut packet = hexadecimal(RTP);
    packet.resize(packet.len() + profile.tag_len(), 0);
    Sealer::with_session_keys(profile, &keys, 0).seal_rtp(0xf17b, 0x5501_a0b2, 12, &mut packet);
    assert_eq!(packet, hexadecimal(sealed));

    let len = Opener::with_session_keys(profile, &keys)
        .open_rtp(&mut ReceiveIndex::default(), 12, &mut packet)
        .unwrap();
    assert_eq!(packet[..len], hexadecimal(RTP));
}

#[test]
fn rtcp_seals_as_in_rfc_7714_section_17() {
    check_rtcp(Profile::AeadAes128Gcm, RTCP_SEALED_128);
    check_rtcp(Profile::AeadAes256Gcm, RTCP_SEALED_256);
}

#[track_caller]
fn check_rtcp(profile: Profile, sealed: &str) {
    let keys = rfc_7714_keys();
    let mut packet = hexadecimal(RTCP);
    Sealer::with_session_keys(profile, &keys, RTCP_INDEX)
        .seal_rtcp(&mut packet)
        .unwrap();
    assert_eq!(packet, hexadecimal(sealed));

    let len = Opener::with_session_keys(profile, &keys)
        .open_rtcp(&mut packet)
        .unwrap();
    assert_eq!(packet[..len], hexadecimal(RTCP));
}

#[test]
fn authentic_rtcp_without_encryption_is_refused() {
    // RFC 7714, section 17.3: the E flag is clear, the tag is right.
    let mut packet = hexadecimal(
        "81c8000d 4d617273 4e545031 4e545032 52545020 0000042a 0000e930 4c756e61
         deadbeef deadbeef deadbeef deadbeef deadbeef 841dd968 3dd78ec9 2ae58790
         125f62b3 000005d4",
    );
    let mut opener = Opener::with_session_keys(Profile::AeadAes128Gcm, &rfc_7714_keys());
    assert_eq!(opener.open_rtcp(&mut packet), Err(OpenError::Unauthentic));
}

#[test]
fn session_keys_derive_as_in_rfc_3711_appendix_b_3() {
    let master = MasterKey::new(
        Profile::Aes128CmHmacSha1_80,
        &hexadecimal("E1F97A0D3E018BE0D64FA32C06DE4139"),
        &hexadecimal("0EC675AD498AFEEBB6960B3AABE6"),
    );
    let keys = master.rtp_session_keys();
    assert_eq!(
        keys.encryption[..16],
        hexadecimal("C61E7A93744F39EE10734AFE3FF7A087")
    );
    assert_eq!(keys.salt[..], hexadecimal("30CBBC08863D8C85D49DB34A9AE1"));
    // The vector is longer than the key of HMAC-SHA1 is.
    assert_eq!(
        keys.authentication[..],
        hexadecimal("CEBE321F6FF7716B6FD4AB49AF256A156D38BAA4")
    );
}

#[test]
fn keystream_is_that_of_rfc_3711_appendix_b_2() {
    let mut keys = session_keys(
        &hexadecimal("2B7E151628AED2A6ABF7158809CF4F3C"),
        &hexadecimal("F0F1F2F3F4F5F6F7F8F9FAFBFCFD"),
    );
    keys.authentication.fill(0);
    let Transform::CounterMode(counter_mode) = Transform::rtp(Profile::Aes128CmHmacSha1_80, &keys)
    else {
        panic!("the profile is counter mode");
    };
    let mut keystream = vec![0; 0xff02 * 16];
    counter_mode.apply_keystream(0, 0, &mut keystream);
    assert_eq!(
        keystream[..48],
        hexadecimal(
            "E03EAD0935C95E80E166B16DD92B4EB4 D23513162B02D0F72A43A2FE4A5F97AB
             41E95B3BB0A2E8DD477901E4FCA894C0"
        )
    );
    assert_eq!(
        keystream[0xfeff * 16..],
        hexadecimal(
            "EC8CDF7398607CB0F2D21675EA9EA1E4 362B7C3C6773516318A077D7FC5073AE
             6A2CC3787889374FBEB4C81B17BA6C44"
        )
    );
}

#[test]
fn exported_keys_are_split_by_role() {
    let profile = Profile::AeadAes128Gcm;
    let exported: Vec<u8> = (0..profile.keying_material_len() as u8).collect();
    let client = KeyingMaterial::from_exporter(profile, &exported, true);
    let server = KeyingMaterial::from_exporter(profile, &exported, false);
    let key = |first: u8, salt: u8| {
        MasterKey::new(
            profile,
            &exported[usize::from(first)..][..16],
            &exported[usize::from(salt)..][..12],
        )
        .rtp_session_keys()
        .encryption
    };
    assert_eq!(client.local.rtp_session_keys().encryption, key(0, 32));
    assert_eq!(client.remote.rtp_session_keys().encryption, key(16, 44));
    assert_eq!(server.local.rtp_session_keys().encryption, key(16, 44));
    assert_eq!(server.remote.rtp_session_keys().encryption, key(0, 32));
}

#[test]
fn debug_output_holds_no_key() {
    let master = MasterKey::new(Profile::AeadAes128Gcm, &[0xab; 16], &[0xab; 12]);
    assert_eq!(
        format!("{master:?}"),
        "MasterKey { profile: AeadAes128Gcm, .. }"
    );
}

/// The vectors give session keys; 128 bits are the first half of 256.
fn rfc_7714_keys() -> SessionKeys {
    let key: Vec<u8> = (0..32).collect();
    session_keys(&key, b"Quid pro quo")
}

fn session_keys(encryption: &[u8], salt: &[u8]) -> SessionKeys {
    let mut keys = SessionKeys {
        encryption: Zeroizing::default(),
        authentication: Zeroizing::default(),
        salt: Zeroizing::default(),
    };
    keys.encryption[..encryption.len()].copy_from_slice(encryption);
    keys.salt[..salt.len()].copy_from_slice(salt);
    keys
}

fn hexadecimal(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text
        .chars()
        .filter_map(|digit| digit.to_digit(16))
        .map(|digit| digit as u8)
        .collect();
    digits
        .chunks(2)
        .map(|pair| pair[0] << 4 | pair[1])
        .collect()
}
