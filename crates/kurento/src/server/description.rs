//! The little that this layer knows about session descriptions (RFC 8866): their sections.

use std::collections::HashSet;

use media::IceCandidate;

use crate::fault::Fault;

/// Formats and lines of a section that is looked through; browsers' have 40 and 150. Too low: a viewer gets a codec that it
/// cannot have repaired. Too high: a hostile description has us look through it for long.
const FORMATS_MAX: usize = 128;
const LINES_MAX: usize = 1_024;

const DIRECTIONS: [&str; 4] = ["a=sendrecv", "a=sendonly", "a=recvonly", "a=inactive"];

/// Refuses what is no session description at all.
pub(super) fn check(text: &str) -> Result<(), Fault> {
    if text.trim_start().starts_with("v=") {
        Ok(())
    } else {
        Err(Fault::kurento(Fault::SDP_PARSE, "Invalid SDP"))
    }
}

/// The section that a candidate belongs to: by its index, or by its `mid` if that leads nowhere.
pub(super) fn section(text: &str, index: Option<u16>, mid: &str) -> Option<u16> {
    let sections = text.lines().filter(|line| line.starts_with("m=")).count();
    if let Some(index) = index
        && (usize::from(index) < sections || sections == 0)
    {
        return Some(index);
    }
    let mut section = None;
    for line in text.lines() {
        if line.starts_with("m=") {
            section = Some(section.map_or(0, |section: u16| section.saturating_add(1)));
        } else if line.strip_prefix("a=mid:") == Some(mid) {
            return section;
        }
    }
    None
}

/// The description with those candidates that are not in it yet, at the ends of their sections.
pub(super) fn with_candidates(text: &str, candidates: &[IceCandidate]) -> String {
    let mut out = String::with_capacity(text.len());
    let mut section: Option<usize> = None;
    let shown: HashSet<_> = text
        .lines()
        .filter_map(|line| line.trim_end().strip_prefix("a="))
        .collect();
    let add = |out: &mut String, section: Option<usize>| {
        let own = candidates.iter().filter(|candidate| {
            section == Some(usize::from(candidate.sdp_m_line_index))
                && !shown.contains(candidate.candidate.as_str())
        });
        for candidate in own {
            out.push_str("a=");
            out.push_str(&candidate.candidate);
            out.push_str("\r\n");
        }
    };
    for line in text.split_inclusive('\n') {
        if line.starts_with("m=") {
            add(&mut out, section);
            section = Some(section.map_or(0, |section| section + 1));
        }
        out.push_str(line);
    }
    if section.is_some() {
        if !out.ends_with('\n') {
            out.push_str("\r\n");
        }
        add(&mut out, section);
    }
    out
}

/// The codec that comes first in the video section of a description, if media flow in one of these directions there.
pub(super) fn video_codec<'a>(text: &'a str, directions: &[&str]) -> Option<&'a str> {
    let lines: Vec<_> = video_section(text).collect();
    let mut head = lines.first()?.split_whitespace().skip(1);
    let (port, first) = (head.next()?, head.nth(1)?);
    let session = text.lines().map(str::trim_end);
    let session = session.take_while(|line| !line.starts_with("m="));
    // What the section says, else the session, else what holds if nobody says anything (RFC 8866, section 6.7).
    let mut stated = lines.iter().copied().chain(session);
    let direction = stated.find(|line| DIRECTIONS.contains(line));
    let flows = directions.contains(&direction.unwrap_or("a=sendrecv"));
    let is_live = port != "0" && flows;
    let codec = lines.iter().find_map(|line| mapped(line, first));
    codec.filter(|_| is_live)
}

/// The description with the formats of a codec, and what repairs them, first in its video section.
pub(super) fn preferring(text: &str, codec: &str) -> String {
    let lines: Vec<_> = video_section(text).collect();
    let Some(head) = lines.first() else {
        return text.to_owned();
    };
    let is_codec = |number: &str| {
        let names = lines.iter().filter_map(|line| mapped(line, number));
        names
            .into_iter()
            .any(|name| name.eq_ignore_ascii_case(codec))
    };
    let repaired = |number: &str| {
        lines.iter().find_map(|line| {
            let rest = line.strip_prefix("a=fmtp:")?.strip_prefix(number)?;
            rest.strip_prefix(" apt=")
        })
    };
    let mut fields: Vec<_> = head.split(' ').collect();
    if let Some(formats) = fields.get_mut(3..)
        && formats.len() <= FORMATS_MAX
        && lines.len() <= LINES_MAX
    {
        // Stable, so that profiles stay in their order.
        formats.sort_by_cached_key(|number| !is_codec(repaired(number).unwrap_or(number)));
    }
    text.replacen(head, &fields.join(" "), 1)
}

/// Lines of the first video section.
fn video_section(text: &str) -> impl Iterator<Item = &str> {
    let mut lines = text.lines().map(str::trim_end);
    let head = lines.find(|line| line.starts_with("m=video "));
    let rest = lines.take_while(|line| !line.starts_with("m="));
    head.into_iter().chain(rest)
}

/// The name of a codec, if a line maps the payload type to it.
fn mapped<'a>(line: &'a str, number: &str) -> Option<&'a str> {
    let mapping = line.strip_prefix("a=rtpmap:")?.strip_prefix(number)?;
    mapping.strip_prefix(' ')?.split('/').next()
}

/// The offer with media in one direction only.
pub(super) fn redirected(text: &str, direction: Option<&str>) -> String {
    match direction {
        Some(direction) => text.replace("a=sendrecv", &format!("a={direction}")),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str =
        "v=0\r\nm=audio 9 X 0\r\na=mid:a\r\nm=video 9 X 96\r\na=mid:v\r\na=sendrecv\r\n";

    fn candidate(text: &str, section: u16) -> IceCandidate {
        IceCandidate {
            candidate: format!("candidate:{text}"),
            sdp_mid: String::new(),
            sdp_m_line_index: section,
        }
    }

    #[test]
    fn candidates_are_added_to_their_sections_once() {
        let candidates = [candidate("1", 0), candidate("2", 1), candidate("3", 7)];
        let shown = with_candidates(TEXT, &candidates);
        assert_eq!(
            shown,
            "v=0\r\nm=audio 9 X 0\r\na=mid:a\r\na=candidate:1\r\nm=video 9 X 96\r\na=mid:v\r\na=sendrecv\r\na=candidate:2\r\n"
        );
        assert_eq!(with_candidates(&shown, &candidates), shown);
        assert_eq!(with_candidates("v=0", &candidates), "v=0");
    }

    #[test]
    fn codecs_are_found_and_preferred_with_what_repairs_them() {
        let offer = "v=0\r\nm=audio 9 X 111\r\na=rtpmap:111 opus/48000/2\r\na=sendrecv\r\n\
            m=video 9 X 96 97 102 103 106 107\r\na=rtpmap:96 VP8/90000\r\na=rtpmap:97 rtx/90000\r\na=fmtp:97 apt=96\r\n\
            a=rtpmap:102 H264/90000\r\na=rtpmap:103 rtx/90000\r\na=fmtp:103 apt=102\r\na=rtpmap:106 H264/90000\r\n\
            a=rtpmap:107 rtx/90000\r\na=fmtp:107 apt=106\r\na=sendonly\r\nm=video 9 X 96\r\n";
        assert_eq!(video_codec(offer, &["a=sendonly"]), Some("VP8"));
        assert_eq!(video_codec(offer, &["a=recvonly"]), None);
        let refused = offer.replacen("m=video 9", "m=video 0", 1);
        assert_eq!(video_codec(&refused, &["a=sendonly"]), None);
        let silent = offer.replacen("a=sendonly\r\n", "", 1);
        assert_eq!(video_codec(&silent, &["a=sendrecv"]), Some("VP8"));
        let stated = silent.replacen("v=0\r\n", "v=0\r\na=recvonly\r\n", 1);
        assert_eq!(video_codec(&stated, &["a=recvonly"]), Some("VP8"));
        assert_eq!(video_codec(&stated, &["a=sendrecv"]), None);
        let preferring_h264 = preferring(offer, "h264");
        let expected = offer.replacen("96 97 102 103 106 107", "102 103 106 107 96 97", 1);
        assert_eq!(preferring_h264, expected);
        for codec in ["VP8", "AV1"] {
            assert_eq!(preferring(offer, codec), offer);
        }
        let long = offer.replacen("96 97", &"96 97 ".repeat(FORMATS_MAX), 1);
        assert_eq!(preferring(&long, "h264"), long);
        for text in [
            "",
            "v=0",
            "m=video",
            "m=video 9",
            "m=video 9 X",
            "m=video 9 X \r\n",
        ] {
            assert_eq!(preferring(text, "VP8"), text);
            assert_eq!(video_codec(text, &["a=sendonly"]), None);
        }
    }

    #[test]
    fn sections_are_found_by_index_then_by_mid() {
        for (index, mid, found) in [
            (Some(0), "v", Some(0)),
            (Some(1), "", Some(1)),
            (Some(2), "v", Some(1)),
            (None, "a", Some(0)),
            (Some(77), "zz", None),
            (None, "", None),
        ] {
            assert_eq!(section(TEXT, index, mid), found);
        }
    }
}
