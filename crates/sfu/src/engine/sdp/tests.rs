//! Offers of real peers; those of hostile ones are in [`hostile`].
//!
//! `testdata/sdp/NAME.sdp` was made by the named peer (those of 2016 are reconstructions); `NAME.answer.sdp` is
//! what we answer. `UPDATE_GOLDEN=1 cargo test -p sfu sdp` writes the latter anew.

mod hostile;

use std::io::Cursor;
use std::path::PathBuf;

use media::MediaKind;
use rtc_sdp::SessionDescription;

use super::*;
use crate::engine::certificate::FingerprintHash;

const OFFERS: [&str; 15] = [
    "chrome50-plan-b",
    "chrome50-simulcast-by-ssrc",
    "chromium-gathered",
    "chromium-recvonly",
    "chromium-sendrecv-data",
    "chromium-simulcast",
    "firefox-recvonly",
    "firefox-sendrecv-data",
    "firefox-simulcast",
    "firefox45",
    "kurento-offer-data",
    "kurento-test-legacy-data",
    "kurento-test-no-bundle",
    "kurento-test-simulcast",
    "old-unbundled-without-mids",
];

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("testdata/sdp")
        .join(format!("{name}.sdp"))
}

fn read(name: &str) -> String {
    std::fs::read_to_string(path(name)).unwrap()
}

fn local() -> LocalParameters {
    let ice = |index: u8| {
        IceCredentials::new(
            &format!("local{index}"),
            &format!("{index}/password/of/twenty/four"),
        )
        .unwrap()
    };
    LocalParameters {
        session_id: 7,
        ice: [ice(0), ice(1), ice(2)],
        ice_lite: true,
        fingerprint: Fingerprint::of(FingerprintHash::Sha256, b"a certificate"),
        ssrcs: LocalSsrcs {
            audio: 1001,
            video: 1002,
            video_rtx: 1003,
        },
        cname: "us".to_owned(),
        stream_id: "stream".to_owned(),
        data_channels: true,
        max_message_size: 262_144,
        preferred_video_codec: None,
        codecs: CODECS.to_vec(),
        audio_kbps_max: None,
        video_kbps_max: None,
        transport_cc: true,
        strict: false,
    }
}

fn fresh_ice(mut local: LocalParameters) -> LocalParameters {
    for credentials in &mut local.ice {
        let ufrag = format!("{}again", credentials.ufrag());
        *credentials = IceCredentials::new(&ufrag, credentials.pwd()).unwrap();
    }
    local.ssrcs = LocalSsrcs {
        audio: 1,
        video: 2,
        video_rtx: 3,
    };
    local
}

fn negotiate(offer: &str, local: &LocalParameters) -> (String, Negotiated) {
    answer(&Description::parse(offer).unwrap(), local, None).unwrap()
}

fn negotiate_named(name: &str) -> (String, Negotiated) {
    negotiate(&read(name), &local())
}

fn has_line(text: &str, line: &str) -> bool {
    text.lines().any(|other| other == line)
}

/// What holds for every description of ours, whatever it answers.
fn check_text(text: &str) {
    SessionDescription::unmarshal(&mut Cursor::new(text)).expect("rtc-sdp reads it");
    Description::parse(text).expect("we read it");
    assert!(
        text.bytes()
            .all(|b| matches!(b, b'\r' | b'\n' | b' '..=b'~'))
    );
}

fn compare(name: &str, text: &str) {
    let path = path(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(expected == text, "{name} differs:\n{text}");
}

#[test]
fn answers_to_real_offers_are_as_reviewed() {
    for name in OFFERS {
        let (text, negotiated) = negotiate_named(name);
        check_text(&text);
        compare(&format!("{name}.answer"), &text);
        for section in negotiated.sections.iter().filter(|s| s.accepted) {
            assert!(section.transport < negotiated.transports.len(), "{name}");
        }
    }
}

#[test]
fn chromium_gets_one_transport_and_all_it_offers() {
    let (_, negotiated) = negotiate_named("chromium-sendrecv-data");
    assert_eq!(negotiated.transports.len(), 1);
    let transport = &negotiated.transports[0];
    assert_eq!(transport.remote_ice.ufrag(), "/Mr2");
    assert_eq!(transport.dtls_role, DtlsRole::Server);
    assert_eq!(transport.remote_fingerprints.len(), 1);

    let audio = negotiated.accepted(MediaKind::Audio).unwrap();
    assert_eq!(audio.extensions.audio_level, Some(1));
    assert_eq!(
        audio.codecs[0].fmtp.as_deref(),
        Some("minptime=10;useinbandfec=1")
    );
    assert_eq!(audio.codecs.len(), 3);

    let video = negotiated.accepted(MediaKind::Video).unwrap();
    assert!(video.send && video.receive && video.rtcp_mux && video.reduced_size);
    assert_eq!(
        video.remote,
        [RemoteStream {
            ssrc: 769_639_473,
            rtx_ssrc: Some(2_513_171_736)
        }]
    );
    assert_eq!(video.codecs[0].payload_type, 96);
    assert_eq!(video.codecs[0].rtx_payload_type, Some(97));
    assert_eq!((video.local_ssrc, video.local_rtx_ssrc), (1002, Some(1003)));
    assert_eq!(video.extensions.transport_cc, Some(3));
    assert_eq!(video.extensions.rid, Some(10));
    let feedback = video.codecs[0].feedback;
    assert!(
        feedback.nack && feedback.pli && feedback.fir && feedback.remb && feedback.transport_cc
    );

    let data = negotiated.accepted(MediaKind::Data).unwrap().data.unwrap();
    assert_eq!((data.sctp_port, data.max_message_size), (5000, 262_144));
}

#[test]
fn simulcast_is_answered_with_the_same_rids() {
    for name in ["chromium-simulcast", "firefox-simulcast"] {
        let (text, negotiated) = negotiate_named(name);
        let video = negotiated.accepted(MediaKind::Video).unwrap();
        assert_eq!(video.simulcast_rids, ["q", "h", "f"]);
        assert!(video.remote.is_empty());
        assert!(has_line(&text, "a=rid:h recv"));
        assert!(has_line(&text, "a=simulcast:recv q;h;f"));
        assert!(has_line(&text, "a=recvonly"));
    }
}

#[test]
fn simulcast_by_ssrc_keeps_the_layers_in_order() {
    let (_, negotiated) = negotiate_named("chrome50-simulcast-by-ssrc");
    let stream = |ssrc, rtx| RemoteStream {
        ssrc,
        rtx_ssrc: Some(rtx),
    };
    assert_eq!(
        negotiated.accepted(MediaKind::Video).unwrap().remote,
        [stream(11, 21), stream(12, 22), stream(13, 23)]
    );
}

#[test]
fn offers_without_bundle_get_a_transport_for_each_section() {
    let (text, negotiated) = negotiate_named("old-unbundled-without-mids");
    assert!(!text.contains("BUNDLE"));
    assert_eq!(negotiated.transports.len(), 2);
    // Credentials at the session level, roles at each section.
    assert_eq!(negotiated.transports[0].remote_ice.ufrag(), "F7gI");
    assert_eq!(negotiated.transports[0].dtls_role, DtlsRole::Client);
    assert_eq!(negotiated.transports[1].dtls_role, DtlsRole::Server);
    assert_ne!(
        negotiated.transports[0].local_ice,
        negotiated.transports[1].local_ice
    );
    assert!(has_line(&text, "a=setup:active") && has_line(&text, "a=setup:passive"));
    // The candidate with an unknown transport is skipped.
    assert_eq!(negotiated.transports[1].candidates.len(), 1);
    let video = negotiated.accepted(MediaKind::Video).unwrap();
    assert!(video.codecs.iter().all(|codec| codec.feedback.nack));
}

#[test]
fn bundle_only_section_is_alive_with_port_0() {
    let offer = read("firefox45").replace("m=video 9", "m=video 0");
    let (_, negotiated) = negotiate(&offer, &local());
    assert!(negotiated.accepted(MediaKind::Video).is_some());
    let offer = offer.replace("a=bundle-only\r\n", "");
    let (text, negotiated) = negotiate(&offer, &local());
    assert!(negotiated.accepted(MediaKind::Video).is_none());
    assert!(has_line(&text, "a=group:BUNDLE sdparta_0 sdparta_2"));
    assert!(has_line(&text, "m=video 0 UDP/TLS/RTP/SAVPF 120 126 97"));
}

#[test]
fn preferred_video_codec_comes_first() {
    let local = LocalParameters {
        preferred_video_codec: Some(Codec::H264),
        ..local()
    };
    let (text, negotiated) = negotiate(&read("chromium-recvonly"), &local);
    let video = negotiated.accepted(MediaKind::Video).unwrap();
    let order: Vec<Codec> = video.codecs.iter().map(|codec| codec.codec).collect();
    let first_other = order.iter().position(|c| *c != Codec::H264).unwrap();
    assert!(first_other > 1 && !order[first_other..].contains(&Codec::H264));
    assert!(text.contains("m=video 9 UDP/TLS/RTP/SAVPF 102 103 "));
}

#[test]
fn strict_answers_as_kurento_does() {
    let local = LocalParameters {
        strict: true,
        ..local()
    };
    let (text, negotiated) = negotiate(&read("kurento-test-simulcast"), &local);
    check_text(&text);
    for absent in [
        "rid",
        "simulcast",
        "rtx",
        "transport",
        "sdes:mid",
        "msid:",
        "rsize",
        "toffset",
    ] {
        assert!(!text.contains(absent), "{absent}");
    }
    assert!(has_line(
        &text,
        "a=extmap:2 http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time"
    ));
    let video = negotiated.accepted(MediaKind::Video).unwrap();
    assert_eq!(video.remote[0].ssrc, 2_222_222_220);
}

#[test]
fn second_section_of_a_kind_and_foreign_ones_are_refused() {
    let offer = read("firefox-sendrecv-data");
    let video = &offer[offer.find("m=video").unwrap()..offer.find("m=application").unwrap()];
    let again = video.replace("a=mid:1", "a=mid:9");
    let offer = format!("{offer}{again}m=text 9 UDP/TLS/RTP/SAVPF 98\r\na=mid:t\r\n");
    let (text, negotiated) = negotiate(&offer, &local());
    check_text(&text);
    assert!(has_line(
        &text,
        "m=video 0 UDP/TLS/RTP/SAVPF 120 124 121 125 99 100 123 122 119"
    ));
    assert!(has_line(&text, "m=text 0 UDP/TLS/RTP/SAVPF 98"));
    assert_eq!(negotiated.sections.len(), 4);
    assert_eq!(negotiated.transport_for(1, "1"), Some(Some(0)));
    assert_eq!(negotiated.transport_for(3, "9"), Some(None));
    assert_eq!(negotiated.transport_for(77, "1"), Some(Some(0)));
    assert_eq!(negotiated.transport_for(77, "zz"), None);
}

#[test]
fn unusable_sections_do_not_fail_the_call() {
    let plain = read("plain-gateway");
    let (text, negotiated) = negotiate(&plain, &local());
    assert!(negotiated.transports.is_empty());
    assert!(has_line(&text, "m=audio 0 RTP/AVPF 98 0"));
    for missing in ["a=ice-ufrag", "a=ice-pwd", "a=fingerprint"] {
        let offer: String = read("chromium-recvonly")
            .split_inclusive("\r\n")
            .filter(|line| !line.starts_with(missing))
            .collect();
        let (text, negotiated) = negotiate(&offer, &local());
        check_text(&text);
        assert!(negotiated.transports.is_empty(), "{missing}");
    }
    let local = LocalParameters {
        data_channels: false,
        ..local()
    };
    let (text, _) = negotiate(&read("chromium-sendrecv-data"), &local);
    assert!(has_line(
        &text,
        "m=application 0 UDP/DTLS/SCTP webrtc-datachannel"
    ));
    assert!(has_line(&text, "a=group:BUNDLE 0 1"));
}

#[test]
fn renegotiation_keeps_transport_and_ssrcs() {
    let offer = read("chromium-sendrecv-data");
    let (_, first) = negotiate(&offer, &local());
    let description = Description::parse(&offer).unwrap();
    let (_, second) = answer(&description, &fresh_ice(local()), Some(&first)).unwrap();
    assert_eq!(second.version, first.version + 1);
    assert_eq!(second.sections, first.sections);
    assert_eq!(continued(&second), [Some(0)]);
    assert_eq!(
        second.transports[0].local_ice,
        first.transports[0].local_ice
    );
    assert!(!second.transports[0].ice_restarted && !second.transports[0].dtls_restarted);
}

fn continued(negotiated: &Negotiated) -> Vec<Option<usize>> {
    let transports = negotiated.transports.iter();
    transports.map(|transport| transport.continues).collect()
}

/// A section of an offer: kind, mid, port, ufrag. A plus in front of the mid bundles it.
type OfferedLine = (&'static str, &'static str, u16, &'static str);

fn offer_of(lines: &[OfferedLine]) -> String {
    let bundle: Vec<_> = lines
        .iter()
        .filter(|(_, _, port, _)| *port > 0)
        .filter_map(|(_, mid, ..)| mid.strip_prefix('+'))
        .collect();
    let mut text = "v=0\no=- 1 1 IN IP4 0.0.0.0\ns=-\nt=0 0\n".to_owned();
    if !bundle.is_empty() {
        text += &format!("a=group:BUNDLE {}\n", bundle.join(" "));
    }
    for (kind, mid, port, ufrag) in lines {
        let (payload_type, name) = match *kind {
            "audio" => (111, "opus/48000/2"),
            _ => (96, "VP8/90000"),
        };
        text += &format!(
            "m={kind} {port} UDP/TLS/RTP/SAVPF {payload_type}\nc=IN IP4 0.0.0.0\na=ice-ufrag:{ufrag}\n\
             a=ice-pwd:apasswordof24characters+\na=fingerprint:sha-256 0B:30:55:7A:9F:C4:E9:0E:33:58:7D:A2:C7:EC:\
             11:36:5B:80:A5:CA:EF:14:39:5E:83:A8:CD:F2:17:3C:61:86\na=setup:actpass\na=rtcp-mux\n\
             a=rtpmap:{payload_type} {name}\n"
        );
        if !mid.is_empty() {
            text += &format!("a=mid:{}\n", mid.trim_start_matches('+'));
        }
    }
    text.replace('\n', "\r\n")
}

/// Negotiates one offer after the other, and checks which transports go on with the last.
fn check_continued(offers: &[&[OfferedLine]], expected: &[Option<usize>]) {
    let mut previous = None;
    for lines in offers {
        let description = Description::parse(&offer_of(lines)).unwrap();
        let (_, negotiated) = answer(&description, &local(), previous.as_ref()).unwrap();
        previous = Some(negotiated);
    }
    assert_eq!(continued(&previous.unwrap()), expected, "{offers:?}");
}

#[test]
fn transport_goes_on_with_its_sections_and_not_with_its_position() {
    const A: OfferedLine = ("audio", "a", 9, "aaaa");
    const V: OfferedLine = ("video", "v", 9, "vvvv");
    const A_OFF: OfferedLine = ("audio", "a", 0, "aaaa");
    const V_OFF: OfferedLine = ("video", "v", 0, "vvvv");
    check_continued(&[&[A, V], &[A, V]], &[Some(0), Some(1)]);
    check_continued(&[&[A], &[A, V]], &[Some(0), None]);
    check_continued(&[&[A, V], &[A_OFF, V]], &[Some(1)]);
    check_continued(&[&[A, V], &[A_OFF, V], &[A, V]], &[None, Some(0)]);
    check_continued(&[&[A, V], &[A, V_OFF], &[A, V]], &[Some(0), None]);
    // A line used again for another section.
    let recycled = ("audio", "x", 9, "xxxx");
    check_continued(&[&[A, V], &[recycled, V]], &[None, Some(1)]);
    let other_kind = ("video", "a", 9, "aaaa");
    check_continued(&[&[A], &[other_kind]], &[None]);
    // The same credentials in all sections of an old peer, which has no mids.
    const OLD_A: OfferedLine = ("audio", "", 9, "same");
    const OLD_V: OfferedLine = ("video", "", 9, "same");
    const OLD_A_OFF: OfferedLine = ("audio", "", 0, "same");
    check_continued(&[&[OLD_A, OLD_V], &[OLD_A, OLD_V]], &[Some(0), Some(1)]);
    check_continued(&[&[OLD_A, OLD_V], &[OLD_A_OFF, OLD_V]], &[Some(1)]);
    check_continued(&[&[OLD_A], &[OLD_A_OFF, OLD_V]], &[None]);
    // ICE restarts.
    let (new_a, new_v) = (("audio", "a", 9, "1111"), ("video", "v", 9, "2222"));
    check_continued(&[&[A, V], &[new_a, new_v]], &[Some(0), Some(1)]);
}

#[test]
fn transport_of_a_bundle_outlives_its_sections() {
    const A: OfferedLine = ("audio", "+a", 9, "bbbb");
    const V: OfferedLine = ("video", "+v", 9, "bbbb");
    const A_OFF: OfferedLine = ("audio", "+a", 0, "bbbb");
    const V_OFF: OfferedLine = ("video", "+v", 0, "bbbb");
    check_continued(&[&[A, V], &[A_OFF, V]], &[Some(0)]);
    check_continued(&[&[A, V], &[A_OFF, V], &[A, V]], &[Some(0)]);
    check_continued(&[&[A], &[A_OFF, V]], &[Some(0)]);
    check_continued(&[&[A, V], &[A_OFF, V_OFF], &[A, V]], &[None]);
    let other_session = ("video", "+v", 9, "cccc");
    check_continued(&[&[A], &[A_OFF, other_session]], &[None]);
    // Video leaves the bundle and comes back.
    let alone = ("video", "v", 9, "vvvv");
    let left = ("video", "+v", 9, "vvvv");
    check_continued(&[&[A, V], &[A, alone]], &[Some(0), None]);
    check_continued(&[&[A, alone], &[A, left]], &[Some(0)]);
    // Audio leaves it: the credentials tell who stays.
    let audio_alone = ("audio", "a", 9, "aaaa");
    check_continued(&[&[A, V], &[audio_alone, V]], &[None, Some(0)]);
}

#[test]
fn new_credentials_restart_ice_and_nothing_else() {
    let offer = read("chromium-sendrecv-data");
    let (_, first) = negotiate(&offer, &local());
    let offer = offer.replace("a=ice-ufrag:/Mr2", "a=ice-ufrag:new1");
    let description = Description::parse(&offer).unwrap();
    let (text, second) = answer(&description, &fresh_ice(local()), Some(&first)).unwrap();
    let transport = &second.transports[0];
    assert!(transport.ice_restarted && !transport.dtls_restarted);
    assert_ne!(transport.local_ice, first.transports[0].local_ice);
    assert!(has_line(&text, "a=ice-ufrag:local0again"));
    assert_eq!(second.sections, first.sections);
}

#[test]
fn new_certificate_restarts_dtls() {
    let offer = read("chromium-sendrecv-data");
    let (_, first) = negotiate(&offer, &local());
    let offer = offer.replace("BE:68:BE", "BE:68:BF");
    let description = Description::parse(&offer).unwrap();
    let (_, second) = answer(&description, &local(), Some(&first)).unwrap();
    assert!(second.transports[0].dtls_restarted && !second.transports[0].ice_restarted);
}

#[test]
fn renegotiation_with_fewer_sections_is_refused() {
    let (_, first) = negotiate_named("chromium-sendrecv-data");
    let description = Description::parse(&read("kurento-test-no-bundle")).unwrap();
    assert!(matches!(
        answer(&description, &local(), Some(&first)),
        Err(SdpError::Unacceptable(_))
    ));
}

#[test]
fn our_offer_is_answered_by_ourselves() {
    for strict in [false, true] {
        let ours = LocalParameters { strict, ..local() };
        let sections = OfferedSections {
            audio: true,
            video: true,
            send: true,
            receive: true,
        };
        let (text, pending) = offer(&ours, sections);
        check_text(&text);
        compare(
            if strict {
                "our-offer-strict"
            } else {
                "our-offer"
            },
            &text,
        );
        let (answer_text, theirs) = negotiate(&text, &fresh_ice(local()));
        let accepted = pending.accept_answer(&answer_text).unwrap();
        assert_eq!(accepted.transports.len(), 1);
        assert_eq!(accepted.transports[0].dtls_role, DtlsRole::Client);
        assert_eq!(theirs.transports[0].dtls_role, DtlsRole::Server);
        assert_eq!(accepted.transports[0].local_ice, ours.ice[0]);
        for (a, b) in accepted.sections.iter().zip(&theirs.sections) {
            assert!(a.accepted && b.accepted);
            assert_eq!((&a.codecs, a.extensions), (&b.codecs, b.extensions));
            assert_eq!((a.send, a.receive), (b.receive, b.send));
            assert_eq!(a.local_rtx_ssrc.is_some(), b.local_rtx_ssrc.is_some());
        }
    }
}

#[test]
fn answer_may_refuse_sections_and_formats() {
    let sections = OfferedSections {
        audio: true,
        video: true,
        send: true,
        receive: false,
    };
    let (text, pending) = offer(&local(), sections);
    let theirs = LocalParameters {
        codecs: vec![Codec::Vp8],
        data_channels: false,
        ..fresh_ice(local())
    };
    let (answer_text, _) = negotiate(&text, &theirs);
    let accepted = pending.accept_answer(&answer_text).unwrap();
    assert!(accepted.accepted(MediaKind::Audio).is_none());
    assert!(accepted.accepted(MediaKind::Data).is_none());
    let video = accepted.accepted(MediaKind::Video).unwrap();
    assert!(video.send && !video.receive);
    assert_eq!(video.codecs.len(), 1);
    assert_eq!(video.codecs[0].codec, Codec::Vp8);
    assert_eq!(accepted.transports.len(), 1);
}

#[test]
fn answer_of_another_shape_is_refused() {
    let sections = OfferedSections {
        audio: true,
        video: true,
        send: true,
        receive: true,
    };
    let (text, pending) = offer(&local(), sections);
    assert_eq!(pending.accept_answer(""), Err(SdpError::EmptyAnswer));
    assert_eq!(
        pending.accept_answer("garbage").unwrap_err().to_string(),
        "Error parsing SDP"
    );
    let (answer_text, _) = negotiate(&text, &local());
    let unbundled = answer_text.replace("a=group:BUNDLE audio0 video0 application0\r\n", "");
    let cut = &answer_text[..answer_text.find("m=application").unwrap()];
    let swapped = answer_text.replace("m=audio", "m=video");
    for text in [&unbundled, cut, &swapped] {
        assert!(matches!(
            pending.accept_answer(text),
            Err(SdpError::Unacceptable(_))
        ));
    }
}

fn ports() -> PlainPorts {
    PlainPorts {
        address: "192.0.2.2".parse().unwrap(),
        audio: 40_000,
        video: 40_002,
    }
}

#[test]
fn plain_offer_is_answered_with_ports() {
    let description = Description::parse(&read("plain-gateway")).unwrap();
    let (text, negotiated) = answer_plain(&description, &local(), &ports(), None);
    check_text(&text);
    compare("plain-gateway.answer", &text);
    let video = &negotiated.sections[1];
    assert_eq!(video.remote[0].ssrc, 112_233);
    assert_eq!(video.bandwidth_kbps, Some(500));
    assert_eq!(
        negotiated.transports[video.transport],
        PlainTransport {
            rtp: Some("127.0.0.1:30002".parse().unwrap()),
            rtcp: Some("127.0.0.1:30003".parse().unwrap()),
            learn_address: false,
            key: None,
        }
    );
}

#[test]
fn plain_peer_may_be_active() {
    let offer = read("plain-gateway")
        .replace("a=sendrecv", "a=direction:active\r\na=sendrecv")
        .replace("c=IN IP4 127.0.0.1", "c=IN IP4 0.0.0.0");
    let description = Description::parse(&offer).unwrap();
    let (text, negotiated) = answer_plain(&description, &local(), &ports(), None);
    assert!(has_line(&text, "a=direction:passive"));
    assert!(negotiated.transports[0].learn_address && negotiated.transports[0].rtp.is_none());
}

#[test]
fn plain_endpoint_refuses_what_is_encrypted() {
    for name in ["sdes-gateway", "chromium-recvonly"] {
        let description = Description::parse(&read(name)).unwrap();
        let (text, negotiated) = answer_plain(&description, &local(), &ports(), None);
        check_text(&text);
        assert!(negotiated.transports.is_empty());
    }
}

#[test]
fn secured_endpoint_takes_the_suite_that_it_has_and_nothing_in_the_clear() {
    use media::{CryptoSuite, Sdes};

    for (name, suite, accepted) in [
        ("sdes-gateway", CryptoSuite::Aes128CmHmacSha1_80, true),
        ("sdes-gateway", CryptoSuite::Aes256CmHmacSha1_80, false),
        ("plain-gateway", CryptoSuite::Aes128CmHmacSha1_80, false),
        ("chromium-recvonly", CryptoSuite::Aes128CmHmacSha1_80, false),
    ] {
        let key = CryptoKey::of(&Sdes::random(suite));
        let description = Description::parse(&read(name)).unwrap();
        let (text, negotiated) = answer_plain(&description, &local(), &ports(), Some(&key));
        check_text(&text);
        assert_eq!(!negotiated.transports.is_empty(), accepted, "{name}");
        assert_eq!(text.contains("a=crypto:"), accepted, "{name}");
        let keys = negotiated.transports.iter().map(|peer| peer.key.clone());
        for theirs in keys {
            assert_eq!(theirs.unwrap().suite(), suite);
        }
    }
}

#[test]
fn plain_offer_of_ours_is_answered_by_ourselves() {
    let sections = OfferedSections {
        audio: true,
        video: true,
        send: true,
        receive: true,
    };
    let (text, pending) = offer_plain(&local(), sections, &ports(), None);
    check_text(&text);
    compare("our-plain-offer", &text);
    let there = PlainPorts {
        address: "2001:db8::7".parse().unwrap(),
        audio: 5000,
        video: 5002,
    };
    let description = Description::parse(&text).unwrap();
    let (answer_text, _) = answer_plain(&description, &local(), &there, None);
    let accepted = pending.accept_answer(&answer_text).unwrap();
    assert_eq!(
        accepted.transports[1].rtp,
        Some("[2001:db8::7]:5002".parse().unwrap())
    );
    assert_eq!(
        accepted.transports[1].rtcp,
        Some("[2001:db8::7]:5003".parse().unwrap())
    );
}

#[test]
fn candidates_are_embedded_once() {
    let (text, _) = negotiate_named("kurento-test-no-bundle");
    let candidates = [
        Candidate::host_tcp("192.0.2.1:443".parse().unwrap(), 0),
        Candidate::host_udp("[2001:db8::1]:5000".parse().unwrap(), 0),
    ];
    let once = embed_candidates(&text, &candidates);
    check_text(&once);
    assert_eq!(embed_candidates(&once, &candidates), once);
    assert_eq!(once.matches("a=end-of-candidates").count(), 2);
    assert!(has_line(&once, "c=IN IP6 2001:db8::1"));
    assert!(once.contains("m=audio 5000 UDP/TLS/RTP/SAVPF"));
    assert_eq!(
        Description::parse(&once).unwrap().sections[0].candidates,
        candidates
    );
    assert_eq!(embed_candidates(&text, &[]), text);
}

#[test]
fn kurento_error_texts() {
    let text = |offer| Description::parse(offer).unwrap_err().to_string();
    assert_eq!(text(""), "Empty offer not valid");
    assert_eq!(text("garbage"), "Error parsing SDP");
}
