//! Offers of real peers, and of hostile ones.
//!
//! `testdata/sdp/NAME.sdp` was made by the named peer (those of 2016 are reconstructions); `NAME.answer.sdp` is
//! what we answer. `UPDATE_GOLDEN=1 cargo test -p sfu sdp` writes the latter anew.

use std::collections::HashSet;
use std::io::Cursor;
use std::path::PathBuf;

use media::MediaKind;
use proptest::prelude::*;
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
    assert_eq!(second.transports, first.transports);
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
    let (text, negotiated) = answer_plain(&description, &local(), &ports());
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
        }
    );
}

#[test]
fn plain_peer_may_be_active() {
    let offer = read("plain-gateway")
        .replace("a=sendrecv", "a=direction:active\r\na=sendrecv")
        .replace("c=IN IP4 127.0.0.1", "c=IN IP4 0.0.0.0");
    let description = Description::parse(&offer).unwrap();
    let (text, negotiated) = answer_plain(&description, &local(), &ports());
    assert!(has_line(&text, "a=direction:passive"));
    assert!(negotiated.transports[0].learn_address && negotiated.transports[0].rtp.is_none());
}

#[test]
fn plain_endpoint_refuses_what_is_encrypted() {
    for name in ["sdes-gateway", "chromium-recvonly"] {
        let description = Description::parse(&read(name)).unwrap();
        let (text, negotiated) = answer_plain(&description, &local(), &ports());
        check_text(&text);
        assert!(negotiated.transports.is_empty());
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
    let (text, pending) = offer_plain(&local(), sections, &ports());
    check_text(&text);
    compare("our-plain-offer", &text);
    let there = PlainPorts {
        address: "2001:db8::7".parse().unwrap(),
        audio: 5000,
        video: 5002,
    };
    let description = Description::parse(&text).unwrap();
    let (answer_text, _) = answer_plain(&description, &local(), &there);
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

#[test]
fn copied_text_cannot_inject_lines() {
    let base = read("chromium-recvonly");
    for (from, to) in [
        ("a=mid:0", "a=mid:0\u{2028}a=x"),
        ("a=mid:0", "a=mid:0 1"),
        ("a=mid:0", "a=mid:"),
        ("a=mid:0", "a=mid:1"),
        ("UDP/TLS/RTP/SAVPF 111", "UDP/TLS RTP/SAVPF; 111"),
        ("m=audio 9", "m=audio 65536"),
        ("m=audio 9", "m=audio"),
        ("m=audio 9", "m=aud\u{e4}o 9"),
    ] {
        let offer = base.replacen(from, to, 1);
        assert_ne!(offer, base);
        let error = Description::parse(&offer).unwrap_err();
        assert!(matches!(error, SdpError::Malformed(_)), "{to}");
    }
    let offer = base.replace("minptime=10", "minptime=10\u{85}a=injected\u{0b}");
    assert!(Description::parse(&offer).is_err());
    let offer = base.replace("minptime=10", "minptime=1\u{fe}0");
    let (text, negotiated) = negotiate(&offer, &local());
    check_text(&text);
    assert_eq!(negotiated.sections[0].codecs[0].fmtp, None);
    let hostile = LocalParameters {
        cname: "a\r\na=x".to_owned(),
        stream_id: " \n".to_owned(),
        ..local()
    };
    let (text, negotiated) = negotiate(&base, &hostile);
    check_text(&text);
    assert!(text.lines().all(|line| !line.starts_with("a=x")));
    assert_eq!(negotiated.sections[0].msid.as_ref().unwrap().0, "-");
}

#[test]
fn floods_are_bounded() {
    let base = read("chromium-gathered");
    let candidates: String = (0..5_000)
        .map(|n| format!("a=candidate:{n} 1 udp 1 10.0.0.1 5 typ host\r\n"))
        .collect();
    let sources: String = (0..2_000)
        .map(|n| format!("a=ssrc:{n} cname:x\r\n"))
        .collect();
    let offer = format!("{base}{candidates}");
    let (_, negotiated) = negotiate(&offer, &local());
    assert!(negotiated.transports[0].candidates.len() <= 64);
    let (text, negotiated) = negotiate(&format!("{base}{sources}"), &local());
    check_text(&text);
    assert!(negotiated.sections[1].remote.len() <= 3);
    let formats: String = (0..1_000).map(|n| format!(" {}", n % 256)).collect();
    let offer = base.replacen(" 111 63", &format!("{formats} 111"), 1);
    let (text, negotiated) = negotiate(&offer, &local());
    check_text(&text);
    assert_eq!(negotiated.sections[0].codecs.len(), 3);
}

/// A real offer with some lines dropped, doubled, swapped, cut or replaced.
fn mutated_offer() -> impl Strategy<Value = String> {
    let edit = (
        any::<prop::sample::Index>(),
        0..6_u8,
        "[ -~]{0,24}",
        any::<prop::sample::Index>(),
    );
    (
        prop::sample::select(OFFERS.to_vec()),
        prop::collection::vec(edit, 0..12),
    )
        .prop_map(|(name, edits)| {
            let text = read(name);
            let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
            for (place, kind, noise, other) in edits {
                let at = place.index(lines.len());
                let other = other.index(lines.len());
                match kind {
                    0 if lines.len() > 1 => drop(lines.remove(at)),
                    1 => lines.insert(other, lines[at].clone()),
                    2 => lines.swap(at, other),
                    3 => lines[at].truncate(noise.len()),
                    4 => lines[at].push_str(&noise),
                    _ => {
                        let keep = lines[at].find(':').map_or(2, |colon| colon + 1);
                        lines[at].truncate(keep);
                        lines[at].push_str(&noise);
                    }
                }
            }
            lines.join("\r\n")
        })
}

/// What a peer may rely on and the engine does, for any answer.
fn check_answer(description: &Description) {
    let (text, negotiated) = answer(description, &local(), None).unwrap();
    check_text(&text);
    let ours = Description::parse(&text).unwrap();
    assert_eq!(ours.sections.len(), description.sections.len());
    for section in &negotiated.sections {
        let written = &ours.sections[section.index];
        assert_eq!(written.mid, section.mid);
        assert_eq!(written.port != 0, section.accepted);
        if !section.accepted {
            continue;
        }
        assert_eq!(section.codecs.is_empty(), section.kind == MediaKind::Data);
        let mut payload_types = HashSet::new();
        for codec in &section.codecs {
            assert!(codec.payload_type < 128 && payload_types.insert(codec.payload_type));
        }
        let transport = &negotiated.transports[section.transport];
        assert_eq!(written.ice.as_ref(), Some(&transport.local_ice));
        assert!(!transport.remote_fingerprints.is_empty());
    }
    let (_, again) = answer(description, &fresh_ice(local()), Some(&negotiated)).unwrap();
    for (again, section) in again.sections.iter().zip(&negotiated.sections) {
        assert!(again == section || !(again.accepted || section.accepted));
    }
    assert_eq!(again.transports, negotiated.transports);
    let (text, _) = answer_plain(description, &local(), &ports());
    check_text(&text);
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "(v=0\r\n)?(([a-z]=)?\\PC{0,40}[\r\n]{1,2}){0,20}") {
        if let Ok(description) = Description::parse(&text) {
            check_answer(&description);
        }
    }

    #[test]
    fn mutated_offers_are_answered_or_refused(text in mutated_offer()) {
        if let Ok(description) = Description::parse(&text) {
            check_answer(&description);
        }
    }

    #[test]
    fn mutated_answers_are_accepted_or_refused(
        cut in any::<prop::sample::Index>(),
        at in any::<prop::sample::Index>(),
        noise in "[ -~\r\n]{0,24}",
    ) {
        let sections = OfferedSections { audio: true, video: true, send: true, receive: true };
        let (text, pending) = offer(&local(), sections);
        let (mut answer_text, _) = negotiate(&text, &local());
        let (cut, at) = (cut.index(answer_text.len()), at.index(answer_text.len()));
        answer_text.insert_str(cut.min(at), &noise);
        answer_text.truncate(cut.max(at));
        if let Ok(negotiated) = pending.accept_answer(&answer_text) {
            for section in negotiated.sections.iter().filter(|section| section.accepted) {
                prop_assert!(section.transport < negotiated.transports.len());
            }
        }
    }
}
