//! Keys of Kurento Room's configuration file, under the names they have here.

use figment::value::{Dict, Value};

/// Their name in the original, and ours.
const KEYS: [(&str, &str); 6] = [
    ("kms.uris", "kms-uri"),
    ("demo.kmsLimit", "kms-max-rooms"),
    ("demo.loopback.remote", "loopback-remote"),
    ("demo.loopback.andLocal", "loopback-and-local"),
    ("updateSpeakerInterval", "speaker-interval-ms"),
    ("thresholdSpeaker", "speaker-threshold-db"),
];

/// Takes the original's keys out of a file and returns what they mean. Those that mean nothing to us stay
/// where they are.
pub(super) fn translate(file: &mut Dict) -> Dict {
    let taken = KEYS.iter().filter_map(|(original, name)| {
        let parts: Vec<_> = original.split('.').collect();
        Some(((*name).to_owned(), take(file, &parts)?))
    });
    taken.collect()
}

/// Removes a value, and the tables that are empty without it.
fn take(table: &mut Dict, path: &[&str]) -> Option<Value> {
    let (first, rest) = path.split_first()?;
    if rest.is_empty() {
        return table.remove(*first);
    }
    let Some(Value::Dict(_, inner)) = table.get_mut(*first) else {
        return None;
    };
    let value = take(inner, rest)?;
    if inner.is_empty() {
        table.remove(*first);
    }
    Some(value)
}
