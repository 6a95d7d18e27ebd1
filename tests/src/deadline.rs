//! Waiting with an end.

use std::fmt::Display;
use std::future::Future;
use std::time::Duration;

/// How long a step may take. Too low: a busy two-core machine fails a sound test. Too high: a
/// broken one takes long to say so.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// What `future` gives, or a panic that names `what` after [`PATIENCE`].
pub async fn within<T>(what: impl Display, future: impl Future<Output = T>) -> T {
    within_time(PATIENCE, what, future).await
}

/// What `future` gives, or a panic that names `what` after `limit`.
pub async fn within_time<T>(
    limit: Duration,
    what: impl Display,
    future: impl Future<Output = T>,
) -> T {
    match tokio::time::timeout(limit, future).await {
        Ok(value) => value,
        Err(_) => panic!("{what}: not within {limit:?}"),
    }
}

/// Polls `condition` until it gives something, for what offers no event to wait for.
pub async fn until<T>(what: impl Display, mut condition: impl AsyncFnMut() -> Option<T>) -> T {
    const POLL_INTERVAL: Duration = Duration::from_millis(20);
    within(what, async {
        let mut ticks = tokio::time::interval(POLL_INTERVAL);
        loop {
            ticks.tick().await;
            if let Some(value) = condition().await {
                return value;
            }
        }
    })
    .await
}
