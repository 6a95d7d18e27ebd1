//! Keys of RTP endpoints, as constructors have them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use media::{CryptoSuite, Sdes};
use serde_json::Value;

use crate::fault::Fault;

/// As the real server, when there is a key and no suite.
const SUITE_DEFAULT: CryptoSuite = CryptoSuite::Aes128CmHmacSha1_80;

/// Reads the parameter `crypto`. One that says nothing asks for nothing.
pub(super) fn read(crypto: Option<&Value>) -> Result<Option<Sdes>, Fault> {
    let illegal = |message| Fault::kurento(Fault::ILLEGAL_PARAMETER, message);
    let member = |name| crypto.and_then(|crypto| crypto.get(name)?.as_str());
    let suite = member("crypto").and_then(|wanted| {
        let mut all = CryptoSuite::ALL.into_iter();
        all.find(|suite| suite.name() == wanted)
    });
    let key = match (member("keyBase64"), member("key")) {
        (Some(key), _) => {
            let key = BASE64.decode(key);
            Some(key.map_err(|_| illegal("Master key is not valid Base64"))?)
        }
        (None, key) => key.map(|key| key.as_bytes().to_vec()),
    };
    match (suite, key) {
        (None, None) => Ok(None),
        (Some(suite), None) => Ok(Some(Sdes::random(suite))),
        (suite, Some(key)) => {
            let sdes = Sdes::with_key(suite.unwrap_or(SUITE_DEFAULT), key);
            sdes.map(Some)
                .ok_or_else(|| illegal("Master key size is wrong"))
        }
    }
}
