//! `invoke`: accessors, and which operation does what.

use media::{BandwidthLimits, Kilobits};
use serde_json::{Map, Value};

use super::Server;
use super::files::played;
use super::objects::{Object, TAG_BYTES_MAX, TAGS_MAX, flow_index};
use super::requests::{Answer, Outcome, Params, Step};
use super::sessions::SessionName;
use super::wiring::kind_of;
use super::work::{After, Call, ObjectKey, Reply};
use crate::fault::Fault;
use crate::model::marshal::{
    Arguments, DESCRIPTION_BYTES_MAX, TEXT_BYTES_MAX, constant, method_arguments,
};
use crate::model::{Class, Kind, Need, Operation, Parameter, Property, core, elements};

impl Server {
    pub(super) fn invoke(&mut self, params: &Params, session: &SessionName) -> Result<Step, Fault> {
        let operation = params.text("operation")?;
        let key = self.objects.find(&params.text("object")?)?;
        self.reference(session, key)?;
        let given = params.members.get("operationParams");
        let given = given.unwrap_or(&Value::Null);
        let class = self.objects.known(key)?.class;
        match class.operation(&operation) {
            None => {
                let count = given.as_object().map_or(0, serde_json::Map::len);
                let message = format!("Method '{operation}' with {count} parameters not found");
                Err(Fault::kurento(Fault::MALFORMED_TRANSACTION, message))
            }
            Some(Operation::Get(property)) => self.get(key, property),
            Some(Operation::Set(property)) => {
                let name = property.written_name(&operation);
                let parameter = [Parameter {
                    name,
                    kind: property.kind,
                    need: Need::Required,
                }];
                let mut arguments = method_arguments(&parameter, given)?;
                let value = arguments.take(name).unwrap_or_default();
                self.set(key, property, value)
            }
            Some(Operation::Call(class, method)) => {
                let arguments = method_arguments(method.parameters, given)?;
                check_lengths(method.parameters, &arguments)?;
                self.call(key, class, method.name, &arguments)
            }
        }
    }

    fn get(&self, key: ObjectKey, property: &'static Property) -> Result<Step, Fault> {
        let object = self.objects.known(key)?;
        if object.class.is(&elements::PLAYER_ENDPOINT)
            && let "position" | "videoInfo" = property.name
        {
            return self.ask_player(key, property.name);
        }
        if let Some(value) = object.properties.get(property.name) {
            return done(value.clone());
        }
        if let Some(initial) = property.initial {
            return done(constant(initial));
        }
        let id =
            |key: Option<ObjectKey>| key.map_or(Value::Null, |key| self.objects.id(key).into());
        done(match property.name {
            "id" => (&*object.id).into(),
            "name" => object.name.clone().into(),
            "parent" => id(object.parent),
            "mediaPipeline" => id(object.pipeline),
            "children" => {
                let children = object.children.iter();
                children.map(|child| self.objects.id(*child)).collect()
            }
            "creationTime" => object.created_unix_s.into(),
            "state" => object.file_state().into(),
            "elementGstreamerDot" => self.dot(key).into(),
            name => match &object.endpoint {
                Some(endpoint) => endpoint.property(name),
                None => self.manager_property(name),
            },
        })
    }

    fn set(
        &mut self,
        key: ObjectKey,
        property: &'static Property,
        value: Value,
    ) -> Result<Step, Fault> {
        if value
            .as_str()
            .is_some_and(|text| text.len() > TEXT_BYTES_MAX)
        {
            return Err(super::lifecycle::too_long(property.name));
        }
        let object = self.objects.known_mut(key)?;
        match property.name {
            "name" => object.name = value.as_str().unwrap_or_default().to_owned(),
            "position" => return self.seek(key, &value),
            name => {
                let value = object.bounded(name, value);
                object.properties.insert(name, value);
            }
        }
        if !property.name.ends_with("Bandwidth") {
            return done(Value::Null);
        }
        let limits = object.bandwidth();
        match object.input().cloned() {
            Some(element) => Ok(Step::Media {
                calls: vec![Call::SetBandwidth { element, limits }],
                after: After::Regardless,
            }),
            None => done(Value::Null),
        }
    }

    /// Runs the method that `class` declares.
    fn call(
        &mut self,
        key: ObjectKey,
        class: &'static Class,
        method: &'static str,
        arguments: &Arguments,
    ) -> Result<Step, Fault> {
        match (class.name, method) {
            ("MediaObject", _) => self.call_object(key, method, arguments),
            ("ServerManager", _) => self.call_manager(method, arguments),
            (_, "getGstreamerDot") => done(self.dot(key).into()),
            (_, "dumpGstreamerDot") => {
                // A log that cannot keep up would hold up everybody.
                tracing::debug!(dot = self.dot(key), "dumped");
                done(Value::Null)
            }
            ("MediaElement", "connect") => self.connect_elements(key, arguments),
            ("MediaElement", "disconnect") => self.disconnect_elements(key, arguments),
            ("MediaElement", "getSourceConnections") => {
                done(self.connections_of(key, true, arguments))
            }
            ("MediaElement", "getSinkConnections") => {
                done(self.connections_of(key, false, arguments))
            }
            ("MediaElement", "getStats") => self.stats(key, arguments),
            ("MediaElement", "isMediaTranscoding") => {
                flow_kind(arguments)?;
                done(false.into())
            }
            ("MediaElement", "isMediaFlowingIn") => {
                let index = flow_kind(arguments)?;
                done(self.objects.known(key)?.flows.into[index].into())
            }
            ("MediaElement", "isMediaFlowingOut") => {
                let index = flow_kind(arguments)?;
                done(self.objects.known(key)?.flows.out[index].into())
            }
            ("SdpEndpoint" | "BaseRtpEndpoint" | "WebRtcEndpoint", _) => {
                self.call_endpoint(key, method, arguments)
            }
            ("UriEndpoint" | "PlayerEndpoint" | "RecorderEndpoint", _) => {
                self.call_file(key, method)
            }
            ("HttpEndpoint", "getUrl") => {
                self.complain_about_uploads(key);
                done(format!("http://localhost:9091/{}", key.0).into())
            }
            ("Dispatcher" | "DispatcherOneToMany" | "Mixer" | "AlphaBlending", _) => {
                self.call_hub(key, class.name, method, arguments)
            }
            // What is left are declarations for decoded media: accepted, without effect.
            _ => done(Value::Null),
        }
    }

    /// Tells once that nobody listens where a client is about to send a file.
    fn complain_about_uploads(&mut self, key: ObjectKey) {
        let object = self.objects.get_mut(key);
        if object.is_some_and(|object| !std::mem::replace(&mut object.complained, true)) {
            let description = "uploads over HTTP are not available here: send by RTP or WebRTC, or use a real server";
            self.emit_error(key, "UNEXPECTED_ELEMENT_ERROR", 1, description);
        }
    }

    fn call_object(
        &mut self,
        key: ObjectKey,
        method: &str,
        arguments: &Arguments,
    ) -> Result<Step, Fault> {
        let object = self.objects.known_mut(key)?;
        let tag = arguments.text("key");
        done(match method {
            "addTag" => {
                for name in ["key", "value"] {
                    if arguments.text(name).len() > TAG_BYTES_MAX {
                        return Err(super::lifecycle::too_long(name));
                    }
                }
                if object.tags.len() >= TAGS_MAX && !object.tags.contains_key(tag) {
                    return Err(Fault::full("tags", TAGS_MAX));
                }
                let value = arguments.text("value").to_owned();
                object.tags.insert(tag.to_owned(), value);
                Value::Null
            }
            "removeTag" => {
                object.tags.remove(tag);
                Value::Null
            }
            "getTag" => {
                let unknown = || Fault::kurento(Fault::TAG_NOT_FOUND, "Tag key not found");
                object.tags.get(tag).ok_or_else(unknown)?.clone().into()
            }
            _ => object.tag_values(),
        })
    }

    /// Goes on after the media server's part of an operation.
    pub(super) fn complete(
        &mut self,
        after: After,
        replies: Vec<Result<Reply, media::Error>>,
        session: &SessionName,
    ) -> Answer {
        match after {
            After::Create(new) => self.created(new, replies, session),
            After::OfferProcessed(key) => self.offer_processed(key, replies),
            After::OfferGenerated(key) => self.offer_generated(key, replies),
            After::AnswerProcessed(key) => self.answer_processed(key, replies),
            After::Regardless => Ok(Outcome::Value(Value::Null)),
            After::Stats { object, kind } => self.stats_collected(object, kind, replies),
            After::Completed(key) => {
                self.destroy(key);
                Ok(Outcome::Members(Map::new()))
            }
            after => self.complete_simple(after, replies),
        }
    }

    /// Operations of which any failed call is the failure.
    fn complete_simple(
        &mut self,
        after: After,
        replies: Vec<Result<Reply, media::Error>>,
    ) -> Answer {
        let replies: Result<Vec<_>, _> = replies.into_iter().collect();
        let replies = match replies {
            Ok(replies) => replies,
            Err(error) => return after.refused(&error),
        };
        match after {
            After::Connected(links) => self.connected_elements(links),
            After::Disconnected(links) => self.disconnected_elements(links),
            After::Routed(routes) => self.routed(routes),
            After::Mixed { source, route } => self.mixed(source, route),
            After::Measured => Ok(Outcome::Value(measured(replies.first()))),
            After::Played(property) => Ok(Outcome::Value(played(property, replies.first()))),
            _ => Ok(Outcome::Value(Value::Null)),
        }
    }
}

impl After {
    /// What a failed call means to the client.
    fn refused(&self, error: &media::Error) -> Answer {
        let code = match (self, error) {
            // The real server ignores what it cannot read.
            (Self::CandidateAdded, media::Error::Candidate(_)) => {
                return Ok(Outcome::Value(Value::Null));
            }
            (Self::CandidateAdded, _) => Fault::ADD_CANDIDATE,
            (Self::Gathered, _) => Fault::GATHER_CANDIDATES,
            (Self::DataChannel, _) => {
                let message = "Data channels are not supported";
                return Err(Fault::kurento(Fault::OPERATION_NOT_SUPPORTED, message));
            }
            (Self::KeyFrameRequested, media::Error::Unsupported { .. }) => {
                let message =
                    "Keyframe request failed (must be requested from a subscriber element)";
                return Err(Fault::kurento(Fault::OPERATION_NOT_SUPPORTED, message));
            }
            _ => return Err(Fault::of_media(error)),
        };
        Err(Fault::kurento(code, error.to_string()))
    }
}

impl Object {
    /// Keeps a send bandwidth on the right side of its counterpart.
    fn bounded(&self, name: &str, value: Value) -> Value {
        let given = value.as_i64().unwrap_or_default();
        let bounded = match name {
            "maxVideoSendBandwidth" if given != 0 => {
                given.max(self.number("minVideoSendBandwidth"))
            }
            "minVideoSendBandwidth" => match self.number("maxVideoSendBandwidth") {
                0 => given,
                max => given.min(max),
            },
            _ => return value,
        };
        bounded.into()
    }

    fn number(&self, name: &str) -> i64 {
        let set = self.properties.get(name).and_then(Value::as_i64);
        let initial = || {
            let property = self.class.property(name)?;
            constant(property.initial?).as_i64()
        };
        set.or_else(initial).unwrap_or_default()
    }

    /// The bounds that the properties of an endpoint add up to.
    pub(super) fn bandwidth(&self) -> BandwidthLimits {
        let limit = |name| {
            let kilobits = u32::try_from(self.number(name)).unwrap_or(0);
            (kilobits > 0).then_some(Kilobits(kilobits))
        };
        BandwidthLimits {
            max_audio_recv: limit("maxAudioRecvBandwidth"),
            min_video_recv: limit("minVideoRecvBandwidth"),
            max_video_recv: limit("maxVideoRecvBandwidth"),
            min_video_send: limit("minVideoSendBandwidth"),
            max_video_send: limit("maxVideoSendBandwidth"),
        }
    }
}

impl Property {
    /// The name under which a setter is given its value: that of the accessor.
    fn written_name(&self, operation: &str) -> &'static str {
        let written = operation.strip_prefix("set").unwrap_or(operation);
        let mut names = self.aliases.iter();
        let alias = names.find(|name| name.eq_ignore_ascii_case(written));
        alias.copied().unwrap_or(self.name)
    }
}

/// A step that needs no media server.
pub(super) fn done(value: Value) -> Result<Step, Fault> {
    Ok(Step::Done(Ok(Outcome::Value(value))))
}

fn measured(reply: Option<&Reply>) -> Value {
    match reply {
        Some(Reply::CpuPercent(percent)) => (*percent).into(),
        Some(Reply::MemoryKib(kib)) => (*kib).into(),
        _ => 0.into(),
    }
}

fn flow_kind(arguments: &Arguments) -> Result<usize, Fault> {
    kind_of(arguments).and_then(flow_index).ok_or_else(|| {
        let message = "Media type DATA is not supported";
        Fault::kurento(Fault::ILLEGAL_PARAMETER, message)
    })
}

/// Bounds texts that an object keeps, session descriptions more generously.
fn check_lengths(parameters: &[Parameter], arguments: &Arguments) -> Result<(), Fault> {
    let texts = parameters
        .iter()
        .filter(|parameter| matches!(parameter.kind, Kind::Text));
    for parameter in texts {
        let limit = match parameter.name {
            "offer" | "answer" => DESCRIPTION_BYTES_MAX,
            _ => TEXT_BYTES_MAX,
        };
        if arguments.text(parameter.name).len() > limit {
            return Err(super::lifecycle::too_long(parameter.name));
        }
    }
    Ok(())
}

/// Whether an object belongs in a graph.
pub(super) fn is_element(object: &Object) -> bool {
    object.class.is(&core::MEDIA_ELEMENT)
}
