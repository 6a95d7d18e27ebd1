//! Players and recorders as far as they can be declared: their states, and an `Error` event where
//! media would have to be read or written.

use serde_json::json;

use super::Server;
use super::objects::Object;
use super::requests::{Answer, Outcome, Step};
use super::work::ObjectKey;
use crate::fault::Fault;
use crate::model::{elements, events};

/// Where a player or recorder is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum FileState {
    #[default]
    Stop,
    Start,
    Pause,
}

/// What a client asks of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FileAction {
    Start,
    Pause,
    Stop,
}

impl FileState {
    fn name(self) -> &'static str {
        match self {
            Self::Stop => "STOP",
            Self::Start => "START",
            Self::Pause => "PAUSE",
        }
    }

    fn after(self, action: FileAction) -> Self {
        match (action, self) {
            (FileAction::Start, _) => Self::Start,
            (FileAction::Stop, _) | (FileAction::Pause, Self::Stop) => Self::Stop,
            (FileAction::Pause, _) => Self::Pause,
        }
    }
}

impl Server {
    pub(super) fn call_file(&mut self, key: ObjectKey, method: &str) -> Result<Step, Fault> {
        let action = match method {
            "play" | "record" => FileAction::Start,
            "pause" => FileAction::Pause,
            _ => FileAction::Stop,
        };
        Ok(Step::Done(self.file_changed(key, action)))
    }

    /// Calls that only declare never fail; what cannot be done is told by an event.
    fn file_changed(&mut self, key: ObjectKey, action: FileAction) -> Answer {
        let object = self.objects.known_mut(key)?;
        let (class, former) = (object.class, object.file.unwrap_or_default());
        let state = former.after(action);
        object.file = Some(state);
        if state != former {
            let own = json!({ "state": state.name() });
            self.emit(key, &events::URI_ENDPOINT_STATE_CHANGED, own);
            if action == FileAction::Start && former == FileState::Stop {
                if class.is(&elements::PLAYER_ENDPOINT) {
                    self.emit_error(key, "INVALID_MEDIA", 0, "Invalid Media");
                } else {
                    let description = "Recording is not available";
                    self.emit_error(key, "STREAM_ERROR_FAILED", 1, description);
                }
            }
            if class.is(&elements::RECORDER_ENDPOINT) {
                match state {
                    FileState::Pause => self.emit(key, &events::PAUSED, json!({})),
                    FileState::Stop => self.emit(key, &events::STOPPED, json!({})),
                    // Told when the first media is written.
                    FileState::Start => {}
                }
            }
        }
        Ok(Outcome::Value(serde_json::Value::Null))
    }
}

impl Object {
    pub(super) fn file_state(&self) -> &'static str {
        self.file.unwrap_or_default().name()
    }
}
