//! Lines of a description: the bounds that hold whatever the peer sends.

use super::SdpError;

/// Largest description. A browser's offer is 6 kB, one with 64 sections 150 kB; far higher lets a peer buy our time.
const TEXT_BYTES_MAX: usize = 256 * 1024;
/// Longest line. Parameter sets of H.264 take a few hundred bytes.
const LINE_BYTES_MAX: usize = 4096;
/// Most lines; a browser writes about 80 in a section.
const LINES_MAX: usize = 8_000;
/// Most media sections. All but three are refused anyway, but must be listed in the answer.
const SECTIONS_MAX: usize = 64;

/// A description cut into sections.
pub(super) struct Lines<'a> {
    pub(super) session: Block<'a>,
    pub(super) sections: Vec<Block<'a>>,
}

/// The lines up to the next `m=`.
#[derive(Default)]
pub(super) struct Block<'a> {
    /// Value of `m=`; empty for the session.
    pub(super) media: &'a str,
    /// Value of `c=`.
    pub(super) connection: Option<&'a str>,
    /// Values of `b=`.
    pub(super) bandwidths: Vec<&'a str>,
    /// Name and value of each `a=`; the value is empty for flags.
    pub(super) attributes: Vec<(&'a str, &'a str)>,
}

impl<'a> Lines<'a> {
    /// Cuts a text. A line ends at CR, LF or both, so no value can hold either; other control characters are refused.
    pub(super) fn parse(text: &'a str) -> Result<Self, SdpError> {
        if text.is_empty() {
            return Err(SdpError::Empty);
        }
        if text.len() > TEXT_BYTES_MAX {
            return Err(SdpError::Malformed("too large"));
        }
        let mut lines = text
            .split(['\r', '\n'])
            .map(str::trim_end)
            .filter(|line| !line.is_empty());
        if lines.next() != Some("v=0") {
            return Err(SdpError::Malformed("no v=0"));
        }
        let mut session = Block::default();
        let mut sections: Vec<Block<'a>> = Vec::new();
        for (count, line) in lines.enumerate() {
            if count >= LINES_MAX || line.len() > LINE_BYTES_MAX {
                return Err(SdpError::Malformed("too many or too long lines"));
            }
            if line.bytes().any(|b| b.is_ascii_control() && b != b'\t') {
                return Err(SdpError::Malformed("control character"));
            }
            let (key, value) = line
                .split_once('=')
                .ok_or(SdpError::Malformed("line without ="))?;
            if key.len() != 1 {
                return Err(SdpError::Malformed("line type"));
            }
            if key == "m" {
                if sections.len() >= SECTIONS_MAX {
                    return Err(SdpError::Malformed("too many media sections"));
                }
                sections.push(Block {
                    media: value,
                    ..Block::default()
                });
            } else {
                sections.last_mut().unwrap_or(&mut session).add(key, value);
            }
        }
        Ok(Self { session, sections })
    }
}

impl<'a> Block<'a> {
    fn add(&mut self, key: &str, value: &'a str) {
        match key {
            "a" => self
                .attributes
                .push(value.split_once(':').unwrap_or((value, ""))),
            "b" => self.bandwidths.push(value),
            "c" => self.connection = Some(value),
            _ => {}
        }
    }

    /// The first value of an attribute.
    pub(super) fn attribute(&self, name: &str) -> Option<&'a str> {
        self.values(name).next()
    }

    /// Every value of an attribute.
    pub(super) fn values(&self, name: &str) -> impl Iterator<Item = &'a str> {
        self.attributes
            .iter()
            .filter(move |(key, _)| *key == name)
            .map(|(_, value)| *value)
    }
}

/// The text, if it is an SDP token of at most `bytes_max` (RFC 8866, section 9). Tokens may be copied to an answer.
pub(super) fn token(text: &str, bytes_max: usize) -> Option<&str> {
    let is_token = !text.is_empty()
        && text.len() <= bytes_max
        && text.bytes().all(|b| {
            b.is_ascii_alphanumeric()
                || matches!(b, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^'..=b'`' | b'{'..=b'~')
        });
    is_token.then_some(text)
}

/// The text, if it is printable ASCII of at most `bytes_max`, so that it may be copied to an answer.
pub(super) fn printable(text: &str, bytes_max: usize) -> Option<&str> {
    let is_printable = !text.is_empty()
        && text.len() <= bytes_max
        && text.bytes().all(|b| b == b' ' || b.is_ascii_graphic());
    is_printable.then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_sections_at_any_line_end() {
        for end in ["\r\n", "\n", "\r", "\r\n\r\n"] {
            let text = [
                "v=0",
                "o=- 1 1 IN IP4 0.0.0.0",
                "a=x",
                "m=audio 9 RTP/AVP 0",
                "a=y:1:2 ",
                "",
            ]
            .join(end);
            let lines = Lines::parse(&text).unwrap();
            assert_eq!(lines.session.attribute("x"), Some(""));
            assert_eq!(lines.sections[0].media, "audio 9 RTP/AVP 0");
            assert_eq!(lines.sections[0].attribute("y"), Some("1:2"));
        }
    }

    #[test]
    fn refuses_what_is_too_much_or_no_description() {
        let texts = [
            ("garbage".to_owned(), "no v=0"),
            ("v=1\r\n".to_owned(), "no v=0"),
            ("v=0\r\nhello\r\n".to_owned(), "line without ="),
            ("v=0\r\nab=c\r\n".to_owned(), "line type"),
            ("v=0\r\na=x\0y\r\n".to_owned(), "control character"),
            (
                format!("v=0\r\na={}", "x".repeat(5000)),
                "too many or too long lines",
            ),
            (
                format!("v=0{}", "\na=b".repeat(10_000)),
                "too many or too long lines",
            ),
            (
                format!("v=0{}", "\nm=audio 9 RTP/AVP 0".repeat(10_000)),
                "too many media sections",
            ),
            (format!("v=0{}", "\na=b".repeat(2_500_000)), "too large"),
        ];
        for (text, reason) in texts {
            let error = Lines::parse(&text).err();
            assert_eq!(error, Some(SdpError::Malformed(reason)));
        }
        assert_eq!(Lines::parse("").err(), Some(SdpError::Empty));
    }

    #[test]
    fn tokens() {
        assert!(token("sdparta_0", 16).is_some());
        assert!(token("{7d0bc165-eb97}", 16).is_some());
        for bad in [
            "",
            "a b",
            "a:b",
            "a/b",
            "a\u{e4}",
            "seventeen-letters",
            "a\"",
            "a;b",
            "a,b",
            "a=b",
        ] {
            assert!(token(bad, 16).is_none(), "{bad}");
        }
    }
}
