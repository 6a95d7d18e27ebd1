//! Text that no honest peer sends is refused or answered within bounds, and never panics.

use std::collections::HashSet;

use media::MediaKind;
use proptest::prelude::*;

use super::super::*;
use super::{OFFERS, check_text, fresh_ice, local, negotiate, ports, read};

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
    let continued = |(index, transport): (usize, &TransportDescription)| TransportDescription {
        continues: Some(index),
        ..transport.clone()
    };
    let transports = negotiated.transports.iter().enumerate();
    let expected: Vec<_> = transports.map(continued).collect();
    assert_eq!(again.transports, expected);
    let (text, _) = answer_plain(description, &local(), &ports(), None);
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
