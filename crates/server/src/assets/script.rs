//! The client for pages without modules: all modules in one function, for a plain `<script>`.
//!
//! It is made of the modules, at the start or in debug builds at each request, so there is no copy of them that could be
//! out of date. What that takes of the modules: imports and exports fill whole lines, and no two modules declare one name.

use std::borrow::Cow;
use std::fmt::Write as _;

/// What pages of the original load.
pub(super) const NAME: &str = "KurentoRoom.js";

/// Each after those that it imports.
const MODULES: [&str; 12] = [
    "errors.js",
    "emitter.js",
    "rpc.js",
    "capture.js",
    "peer.js",
    "speaking.js",
    "view.js",
    "viewing.js",
    "participant.js",
    "stream.js",
    "room.js",
    "kurento-room.js",
];

const HEADER: &str = "\
// Room client for browsers, for a plain <script> tag: all modules of it in one. Do not edit.
// Globals: KurentoRoom, Room, Participant, Stream, jq.
(function (global) {
'use strict';
";

const FOOTER: &str = "
Object.assign(global, { KurentoRoom, Room, Participant, Stream, jq: (id) => '#' + CSS.escape(id) });
})(globalThis);
";

/// The script, of modules that `read` has by their name; none if one is missing.
pub(super) fn compose<'a>(read: impl Fn(&str) -> Option<Cow<'a, [u8]>>) -> Option<String> {
    let mut script = HEADER.to_owned();
    for name in MODULES {
        let module = read(name)?;
        script.push('\n');
        for line in std::str::from_utf8(&module).ok()?.lines() {
            if !line.starts_with("import ") {
                let line = line.strip_prefix("export ").unwrap_or(line);
                let _ = writeln!(script, "{line}");
            }
        }
    }
    script.push_str(FOOTER);
    Some(script)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::fs;
    use std::path::Path;

    use super::*;

    fn sources() -> impl Fn(&str) -> Option<Cow<'static, [u8]>> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../room-client/js");
        move |name| fs::read(folder.join(name)).map(Cow::Owned).ok()
    }

    fn text(read: impl Fn(&str) -> Option<Cow<'static, [u8]>>, name: &str) -> String {
        String::from_utf8(read(name).unwrap().into_owned()).unwrap()
    }

    #[test]
    fn modules_come_after_those_that_they_import() {
        let mut before = HashSet::new();
        for name in MODULES {
            for line in text(sources(), name).lines() {
                let Some(import) = line.strip_prefix("import ") else {
                    continue;
                };
                let (_, from) = import.split_once(" from './").unwrap();
                let from = from.strip_suffix("';").unwrap();
                assert!(before.contains(from), "{name} imports {from}");
            }
            before.insert(name);
        }
        // What the module for users of modules exports is all there is.
        for line in text(sources(), "tertulia-room.js").lines() {
            if let Some((_, from)) = line.split_once(" from './") {
                assert!(before.contains(from.strip_suffix("';").unwrap()), "{line}");
            }
        }
    }

    #[test]
    fn the_script_has_no_module_syntax_and_each_name_once() {
        let script = compose(sources()).unwrap();
        let mut names = HashSet::new();
        for line in script.lines() {
            assert!(
                !line.starts_with("import") && !line.starts_with("export"),
                "{line}"
            );
            let mut words = line
                .strip_prefix("async ")
                .unwrap_or(line)
                .split([' ', '(']);
            if let (Some("const" | "let" | "class" | "function"), Some(name)) =
                (words.next(), words.next())
            {
                assert!(names.insert(name), "declared twice: {name}");
            }
        }
        for global in ["KurentoRoom", "Room", "Participant", "Stream"] {
            assert!(names.contains(global), "{global}");
        }
    }
}
