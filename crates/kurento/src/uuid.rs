//! Random UUIDs (RFC 9562, section 5.4).

use rand::TryRngCore as _;
use rand::rngs::OsRng;

/// 122 random bits in the usual lower-case form. Whoever knows the one of a session can take it over.
pub(crate) fn random() -> String {
    let mut bytes = [0; 16];
    OsRng
        .try_fill_bytes(&mut bytes)
        .expect("the operating system has randomness once it has booted");
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let mut text = String::with_capacity(36);
    for (index, byte) in bytes.into_iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        for digit in [byte >> 4, byte & 15] {
            let digit = char::from_digit(u32::from(digit), 16);
            text.push(digit.expect("four bits are a digit"));
        }
    }
    text
}
