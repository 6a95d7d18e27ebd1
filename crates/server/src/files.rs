//! How many files, and thereby sockets, the process may have open.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Files beside the clients' connections to the page: sockets for media, and connections of clients without UDP.
/// Too low: the warning comes too late. Too high: it comes for nothing.
const OTHER_FILES: u64 = 4_096;

/// Raises the limit as far as an unprivileged process may. The usual default, 1024, is that low for the sake of
/// programs that call `select`.
pub(crate) fn raise_limit(connections_max: usize) {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        tracing::debug!(%error, "cannot raise the limit of open files");
    }
    let limit = getrlimit(Resource::RLIMIT_NOFILE).map_or(u64::MAX, |(soft, _)| soft);
    if limit < (connections_max as u64).saturating_add(OTHER_FILES) {
        tracing::warn!(
            limit,
            connections_max,
            "fewer open files allowed than connections; raise `ulimit -Hn` or lower --max-connections"
        );
    }
}
