//! One heavy scenario at a time.
//!
//! Two browsers' worth of encoders on two cores measure each other instead of the server.

use std::sync::LazyLock;

use tokio::sync::{Mutex, MutexGuard};

static TURN: LazyLock<Mutex<()>> = LazyLock::new(Mutex::default);

/// Waits until no other scenario of this test binary holds the machine.
pub async fn take() -> MutexGuard<'static, ()> {
    TURN.lock().await
}
