//! What flows wait for. The rules carry these and never wait themselves.

use std::sync::Arc;

use media::PipelineId;
use tokio::sync::{Mutex, OnceCell, OwnedMutexGuard};

use crate::protocol::RoomError;

/// One media operation of a participant at a time: holding the turn, a flow knows that nothing of the
/// participant changes while it awaits, except that it may be gone altogether.
#[derive(Clone, Default)]
pub(crate) struct Turn(Arc<Mutex<()>>);

impl Turn {
    pub(crate) async fn take(self) -> OwnedMutexGuard<()> {
        self.0.lock_owned().await
    }
}

/// A room's pipeline, made by the first join; the others wait for the outcome.
#[derive(Clone, Default)]
pub(crate) struct PipelineCell(Arc<OnceCell<Result<PipelineId, RoomError>>>);

impl PipelineCell {
    pub(crate) async fn get_or_create(
        &self,
        create: impl Future<Output = Result<PipelineId, RoomError>>,
    ) -> Result<PipelineId, RoomError> {
        self.0.get_or_init(|| create).await.clone()
    }

    pub(crate) fn pipeline(&self) -> Option<&PipelineId> {
        self.0.get()?.as_ref().ok()
    }

    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}
