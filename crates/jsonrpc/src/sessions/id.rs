//! Names of sessions and sockets.

use std::fmt;

use rand::TryRngCore as _;
use rand::rngs::OsRng;

/// The secret that names a session on the wire, and the participant id of whoever holds it.
///
/// 130 random bits in base 32 with the digits `0-9a-v`: 26 characters. Whoever knows it can take the
/// session over, so `Debug` does not show it; logs use [`SessionKey`].
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct SessionId(Box<str>);

impl SessionId {
    const DIGITS: &[u8; 32] = b"0123456789abcdefghijklmnopqrstuv";
    const LENGTH: usize = 26;

    pub(crate) fn random() -> Self {
        let mut random = [0; Self::LENGTH];
        OsRng
            .try_fill_bytes(&mut random)
            .expect("the operating system has randomness once it has booted");
        let digit = |byte: u8| char::from(Self::DIGITS[usize::from(byte & 31)]);
        Self(random.into_iter().map(digit).collect())
    }

    #[cfg(test)]
    pub(crate) fn fixed(text: &str) -> Self {
        Self(text.into())
    }

    /// The text on the wire.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::borrow::Borrow<str> for SessionId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionId(..)")
    }
}

/// A session within this process: never reused, no secret, fit for logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionKey(pub(crate) u64);

impl fmt::Display for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A socket, numbered by whoever accepts it. A number must not be used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SocketId(pub u64);

impl fmt::Display for SocketId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_26_digits_of_base_32() {
        let id = SessionId::random();
        assert_eq!(id.as_str().len(), 26);
        assert!(
            id.as_str()
                .chars()
                .all(|c| matches!(c, '0'..='9' | 'a'..='v'))
        );
        assert_ne!(id, SessionId::random());
    }

    #[test]
    fn debug_hides_the_secret() {
        assert_eq!(format!("{:?}", SessionId::fixed("abc")), "SessionId(..)");
    }
}
