//! Players and recorders, in the words of the protocol.
//!
//! Calls go to the media server; what comes of them is told by its events, which also keep the state. Deliberately
//! absent: files.

use media::{ElementId, FileState, Parameter, Parameters, Recording};
use serde_json::{Value, json};

use super::Server;
use super::objects::Object;
use super::requests::Step;
use super::work::{After, Call, ObjectKey, Reply};
use crate::fault::Fault;
use crate::model::events;
use crate::model::marshal::{Arguments, register};

impl Server {
    /// What the media server needs to know of a file.
    pub(super) fn file_parameters(&self, arguments: &Arguments) -> Parameters {
        let mut parameters = Parameters::new();
        let uri = self.absolute_uri(arguments.text("uri"));
        parameters.insert("uri".to_owned(), Parameter::Text(uri));
        if let Some(profile) = arguments.optional_text("mediaProfile") {
            let profile = Parameter::Text(profile.to_owned());
            parameters.insert("mediaProfile".to_owned(), profile);
        }
        parameters
    }

    /// These calls do not fail because of files; what cannot be done is told by an event.
    pub(super) fn call_file(
        &mut self,
        key: ObjectKey,
        method: &'static str,
    ) -> Result<Step, Fault> {
        self.objects.known_mut(key)?.records |= method == "record";
        self.invoke_file(key, method, Parameters::new(), After::Nothing)
    }

    /// Goes to a place in a player's file, in milliseconds.
    pub(super) fn seek(&self, key: ObjectKey, position: &Value) -> Result<Step, Fault> {
        let position = Parameter::Integer(position.as_i64().unwrap_or_default());
        let parameters = [("position".to_owned(), position)].into();
        self.invoke_file(key, "setPosition", parameters, After::Nothing)
    }

    fn invoke_file(
        &self,
        key: ObjectKey,
        operation: &'static str,
        parameters: Parameters,
        after: After,
    ) -> Result<Step, Fault> {
        let element = self.element(key)?;
        let calls = vec![Call::Invoke {
            element,
            operation,
            parameters,
        }];
        Ok(Step::Media { calls, after })
    }

    /// Reads a property that only the player knows.
    pub(super) fn ask_player(&self, key: ObjectKey, property: &'static str) -> Result<Step, Fault> {
        let operation = match property {
            "position" => "getPosition",
            _ => "getVideoInfo",
        };
        let element = self.element(key)?;
        Ok(Step::Media {
            calls: vec![Call::Query { element, operation }],
            after: After::Played(property),
        })
    }

    /// What completes the recordings of an object and of all below it.
    pub(super) fn completing_calls(&self, key: ObjectKey) -> Vec<Call> {
        let members = self.objects.subtree(key);
        let members = members.iter().filter_map(|key| self.objects.get(*key));
        let recorders = members.filter(|object| object.records);
        let elements = recorders.filter_map(|object| object.input().cloned());
        elements
            .map(|element| stop(element, "stopAndWait"))
            .collect()
    }

    pub(super) fn file_changed(&mut self, key: ObjectKey, state: FileState) {
        let Some(object) = self.objects.get_mut(key) else {
            return;
        };
        if object.file.replace(state) != Some(state) {
            let own = json!({ "state": name(state) });
            self.emit(key, &events::URI_ENDPOINT_STATE_CHANGED, own);
        }
    }

    pub(super) fn recording_changed(&mut self, key: ObjectKey, recording: Recording) {
        if let Some(object) = self.objects.get_mut(key) {
            object.records &= recording != Recording::Stopped;
        }
        let event = match recording {
            Recording::Active => &events::RECORDING,
            Recording::Paused => &events::PAUSED,
            Recording::Stopped => &events::STOPPED,
        };
        self.emit(key, event, json!({}));
    }

    /// Recorders that were made to do so stop with the player they record.
    pub(super) fn file_ended(&mut self, key: ObjectKey) {
        self.emit(key, &events::END_OF_STREAM, json!({}));
        let sinks = self.objects.wires.sinks_of(key);
        let sinks = sinks.iter().filter_map(|sink| self.objects.get(*sink));
        let ending = sinks.filter(|sink| sink.records && sink.flag("stopOnEndOfStream"));
        let elements = ending.filter_map(|sink| sink.input().cloned());
        let calls: Vec<_> = elements.map(|element| stop(element, "stop")).collect();
        if !calls.is_empty() {
            self.call_unasked(calls);
        }
    }
}

impl Object {
    /// The symbol of its state.
    pub(super) fn file_state(&self) -> &'static str {
        name(self.file.unwrap_or(FileState::Stopped))
    }
}

/// The value of a property that a player was asked for.
pub(super) fn played(property: &str, reply: Option<&Reply>) -> Value {
    let number = |name: &str| match reply {
        Some(Reply::Values(values)) => match values.get(name) {
            Some(Parameter::Integer(value)) => *value,
            _ => 0,
        },
        _ => 0,
    };
    let is_seekable = match reply {
        Some(Reply::Values(values)) => values.get("isSeekable") == Some(&Parameter::Flag(true)),
        _ => false,
    };
    match property {
        "position" => number("position").into(),
        _ => register(
            "VideoInfo",
            json!({
                "isSeekable": is_seekable,
                "seekableInit": number("seekableInit"),
                "seekableEnd": number("seekableEnd"),
                "duration": number("duration"),
            }),
        ),
    }
}

fn stop(element: ElementId, operation: &'static str) -> Call {
    Call::Invoke {
        element,
        operation,
        parameters: Parameters::new(),
    }
}

fn name(state: FileState) -> &'static str {
    match state {
        FileState::Stopped => "STOP",
        FileState::Started => "START",
        FileState::Paused => "PAUSE",
    }
}
