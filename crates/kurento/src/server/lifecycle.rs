//! How objects are made, held by sessions, and released.

use std::collections::BTreeMap;
use std::sync::Arc;

use media::{ElementKind, FileState, PipelineId};
use serde_json::{Map, Value};

use super::config::Unsupported;
use super::objects::{Media, Object, Objects};
use super::requests::{Answer, Outcome, Params, Step};
use super::sessions::{SESSIONS_MAX, SessionName};
use super::work::{After, Call, ObjectKey, Reply};
use super::{Effect, Server};
use crate::fault::Fault;
use crate::model::marshal::{Arguments, TEXT_BYTES_MAX, constructor_arguments};
use crate::model::{Class, Need, Property, core, elements};
use crate::uuid;

/// Objects in one pipeline or hub. Looking for flows and connections walks over them.
const CHILDREN_MAX: usize = 20_000;

/// An object that the media server is making.
#[derive(Debug)]
pub(super) struct NewObject {
    key: ObjectKey,
    class: &'static Class,
    parent: Option<ObjectKey>,
    arguments: Arguments,
}

impl Server {
    pub(super) fn create(&mut self, params: &Params, session: &SessionName) -> Result<Step, Fault> {
        let name = params.text("type")?;
        let class = Class::creatable(&name)
            .filter(|class| self.config.unsupported == Unsupported::Declare || !class.is_hollow())
            .ok_or_else(|| {
                let message = format!("Factory '{name}' not found");
                Fault::kurento(Fault::NOT_AVAILABLE, message)
            })?;
        let limit = self.config.objects_max;
        if self.objects.len() >= limit {
            return Err(Fault::full("objects", limit));
        }
        let held = self.sessions.get_mut(session);
        let limit = self.config.objects_per_session_max;
        if held.is_some_and(|session| session.objects.len() >= limit) {
            return Err(Fault::full("objects", limit));
        }
        let arguments = read_constructor(class, params.members.get("constructorParams"))?;
        let parent = self.parent_of(class, &arguments)?;
        check_values(&arguments)?;
        let key = self.objects.next_key();
        let calls = self.creation_calls(key, class, parent, &arguments)?;
        let new = NewObject {
            key,
            class,
            parent,
            arguments,
        };
        if calls.is_empty() {
            return Ok(Step::Done(self.register(new, Media::None, session)));
        }
        let after = After::Create(new);
        Ok(Step::Media { calls, after })
    }

    fn parent_of(
        &self,
        class: &'static Class,
        arguments: &Arguments,
    ) -> Result<Option<ObjectKey>, Fault> {
        if class.is(&core::MEDIA_PIPELINE) {
            return Ok(None);
        }
        let (parameter, base) = if class.is(&core::HUB_PORT) {
            ("hub", &core::HUB)
        } else {
            ("mediaPipeline", &core::MEDIA_PIPELINE)
        };
        let parent = self
            .objects
            .find_as(parameter, arguments.text(parameter), base)?;
        if self.objects.known(parent)?.children.len() >= CHILDREN_MAX {
            return Err(Fault::full("children", CHILDREN_MAX));
        }
        Ok(Some(parent))
    }

    fn creation_calls(
        &self,
        object: ObjectKey,
        class: &'static Class,
        parent: Option<ObjectKey>,
        arguments: &Arguments,
    ) -> Result<Vec<Call>, Fault> {
        let Some(parent) = parent else {
            return Ok(vec![Call::CreatePipeline { object }]);
        };
        if class.is(&core::HUB) {
            return Ok(Vec::new());
        }
        let pipeline = self.media_pipeline(parent)?;
        let element = |kind| Call::CreateElement {
            object,
            pipeline: pipeline.clone(),
            kind,
        };
        Ok(if class.is(&core::HUB_PORT) {
            vec![
                element(ElementKind::PassThrough),
                element(ElementKind::PassThrough),
            ]
        } else if class.is(&elements::WEB_RTC_ENDPOINT) {
            let data_channels = arguments.flag("useDataChannels");
            vec![element(ElementKind::WebRtcEndpoint {
                data_channels,
                peer: None,
            })]
        } else if class.is(&elements::RTP_ENDPOINT) {
            let sdes = super::sdes::read(arguments.value("crypto"))?;
            let ipv6 = arguments.flag("useIpv6");
            vec![element(ElementKind::RtpEndpoint { sdes, ipv6 })]
        } else if class.is(&core::URI_ENDPOINT) {
            vec![Call::CreateCustomElement {
                object,
                pipeline: pipeline.clone(),
                class: class.name,
                parameters: self.file_parameters(arguments),
            }]
        } else {
            vec![element(ElementKind::PassThrough)]
        })
    }

    /// The media server's name for the pipeline that an object is in.
    fn media_pipeline(&self, object: ObjectKey) -> Result<PipelineId, Fault> {
        let lineage = self.objects.ancestry(object);
        let pipelines = lineage.iter().filter_map(|key| self.objects.get(*key));
        let mut ids = pipelines.filter_map(|object| match &object.media {
            Media::Pipeline(id) => Some(id.clone()),
            _ => None,
        });
        ids.next()
            .ok_or_else(|| Fault::object_not_found(self.objects.id(object)))
    }

    /// What the media server made becomes an object, or is released again.
    pub(super) fn created(
        &mut self,
        new: NewObject,
        replies: Vec<Result<Reply, media::Error>>,
        session: &SessionName,
    ) -> Answer {
        let (mut elements, mut pipeline, mut failure) = (Vec::new(), None, None);
        for reply in replies {
            match reply {
                Ok(Reply::Element(id)) => elements.push(id),
                Ok(Reply::Pipeline(id)) => pipeline = Some(id),
                Ok(_) => {}
                Err(error) => failure = Some(error),
            }
        }
        let parent_is_gone = new
            .parent
            .is_some_and(|parent| self.objects.get(parent).is_none());
        if failure.is_some() || parent_is_gone {
            let elements = elements.into_iter().map(Effect::ReleaseElement);
            self.effects.extend(elements);
            self.effects.extend(pipeline.map(Effect::ReleasePipeline));
            let parent = new.arguments.text("mediaPipeline");
            return Err(failure.map_or_else(|| Fault::object_not_found(parent), unmade));
        }
        let mut elements = elements.into_iter();
        let media = match (pipeline, elements.next(), elements.next()) {
            (Some(id), ..) => Media::Pipeline(id),
            (None, Some(input), Some(output)) => Media::Port { input, output },
            (None, Some(id), None) => Media::Element(id),
            (None, None, _) => Media::None,
        };
        self.register(new, media, session)
    }

    fn register(&mut self, new: NewObject, media: Media, session: &SessionName) -> Answer {
        let NewObject {
            key,
            class,
            parent,
            mut arguments,
        } = new;
        let id = self.new_id(class, parent);
        let mut object = Object::new(key, id.clone(), class, self.clock.unix().as_secs());
        object.parent = parent;
        object.pipeline = match parent.and_then(|parent| self.objects.get(parent)) {
            Some(parent) => parent.pipeline,
            None => Some(key),
        };
        object.media = media;
        if class.is(&core::SDP_ENDPOINT) {
            object.endpoint = Some(Box::default());
        }
        if class.is(&core::URI_ENDPOINT) {
            object.file = Some(FileState::Stopped);
        }
        object.properties = self.initial_properties(class, &mut arguments);
        self.objects.insert(object);
        let holders = parent.and_then(|parent| self.objects.get(parent));
        let mut holders: Vec<_> =
            holders.map_or_else(Vec::new, |parent| parent.sessions.iter().cloned().collect());
        holders.push(session.clone());
        for session in holders {
            // A session that has all it may have does not hold what another makes in its pipeline.
            if let Err(fault) = self.reference(&session, key) {
                tracing::debug!(%fault, "an object is not held by a session of its parent");
            }
        }
        self.emit_created(key);
        self.join_broadcast(key);
        Ok(Outcome::Value(id.to_string().into()))
    }

    fn new_id(&self, class: &Class, parent: Option<ObjectKey>) -> Arc<str> {
        let (uuid, class) = (uuid::random(), class.name);
        match parent {
            Some(parent) => {
                let parent = self.objects.id(parent);
                format!("{parent}/{uuid}_kurento.{class}").into()
            }
            None => format!("{uuid}_kurento.{class}").into(),
        }
    }

    /// What the constructor said and operations need to know.
    fn initial_properties(
        &self,
        class: &'static Class,
        arguments: &mut Arguments,
    ) -> BTreeMap<&'static str, Value> {
        let mut properties = BTreeMap::new();
        for parameter in class.constructor.unwrap_or_default() {
            let Some(mut value) = arguments.take(parameter.name) else {
                continue;
            };
            if parameter.name == "uri" {
                value = self.absolute_uri(value.as_str().unwrap_or_default()).into();
            }
            properties.insert(parameter.name, value);
        }
        if class.is(&core::BASE_RTP_ENDPOINT) {
            let limit = self.config.max_video_send_kbps;
            properties.insert("maxVideoSendBandwidth", limit.into());
        }
        properties
    }

    pub(super) fn absolute_uri(&self, uri: &str) -> String {
        let uri = uri.replace("%2F", "/");
        if uri.contains("://") {
            uri
        } else {
            format!("{}{uri}", self.config.default_path)
        }
    }

    /// Lets a session hold an object and everything above it.
    pub(super) fn reference(&mut self, session: &SessionName, key: ObjectKey) -> Result<(), Fault> {
        let limit = self.config.objects_per_session_max;
        let Some(holder) = self.sessions.obtain(session) else {
            return Err(Fault::full("sessions", SESSIONS_MAX));
        };
        for key in self.objects.ancestry(key) {
            if holder.objects.contains(&key) {
                continue;
            }
            if holder.objects.len() > limit {
                return Err(Fault::full("objects", limit));
            }
            holder.objects.insert(key);
            if let Some(object) = self.objects.get_mut(key) {
                object.sessions.insert(session.clone());
            }
        }
        Ok(())
    }

    /// Lets go of an object; the last session that does releases it.
    pub(super) fn unreference(&mut self, session: &SessionName, key: ObjectKey) {
        if let Some(holder) = self.sessions.get_mut(session) {
            holder.objects.remove(&key);
        }
        let Some(object) = self.objects.get_mut(key) else {
            return;
        };
        if !object.sessions.remove(session) {
            return;
        }
        let mut subscriptions = 0;
        object.subscribers.retain(|subscriber| {
            let is_own = subscriber.session == *session;
            subscriptions += if is_own { subscriber.ids.len() } else { 0 };
            !is_own
        });
        self.sessions.unsubscribe(session, subscriptions);
        let Some(object) = self.objects.get(key) else {
            return;
        };
        if object.sessions.is_empty() && key != Objects::MANAGER {
            self.destroy(key);
        }
    }

    /// Ends a session: its objects are let go, or released for everybody.
    pub(super) fn close_session(&mut self, session: &SessionName, release: bool) {
        let Some(holder) = self.sessions.remove(session) else {
            return;
        };
        let mut objects: Vec<_> = holder.objects.into_iter().collect();
        objects.sort_unstable();
        for key in objects {
            if release && key != Objects::MANAGER {
                self.destroy(key);
            } else {
                self.unreference(session, key);
            }
        }
    }

    /// Releases an object and everything below it.
    pub(super) fn destroy(&mut self, key: ObjectKey) {
        let Some(pipeline) = self.objects.get(key).map(|object| object.pipeline) else {
            return;
        };
        let subtree = self.objects.subtree(key);
        let mut members = subtree.iter().filter_map(|key| self.objects.get(*key));
        let flowed = members.any(|object| object.flows.any());
        let heard_by: Vec<_> = subtree.iter().flat_map(|key| self.unwire(*key)).collect();
        for key in subtree {
            let Some(object) = self.objects.remove(key) else {
                continue;
            };
            for session in &object.sessions {
                if let Some(session) = self.sessions.get_mut(session) {
                    session.objects.remove(&key);
                }
            }
            for subscriber in &object.subscribers {
                let count = subscriber.ids.len();
                self.sessions.unsubscribe(&subscriber.session, count);
            }
            self.emit_destroyed(&object.id);
            self.effects.extend(match object.media {
                Media::None => vec![],
                Media::Pipeline(id) => vec![Effect::ReleasePipeline(id)],
                Media::Element(id) => vec![Effect::ReleaseElement(id)],
                Media::Port { input, output } => vec![
                    Effect::ReleaseElement(input),
                    Effect::ReleaseElement(output),
                ],
            });
        }
        self.hear_others(heard_by);
        if let Some(pipeline) = pipeline.filter(|_| flowed) {
            self.refresh_flows(pipeline);
        }
    }
}

impl Class {
    /// Whether it can be declared only: its purpose needs decoded media, or uploads.
    pub(super) fn is_hollow(&'static self) -> bool {
        let hollow = [
            &core::FILTER,
            &elements::COMPOSITE,
            &elements::ALPHA_BLENDING,
            &elements::HTTP_ENDPOINT,
        ];
        hollow.into_iter().any(|class| self.is(class))
    }

    /// The property of that name, own or inherited.
    pub(super) fn property(&'static self, name: &str) -> Option<&'static Property> {
        let mut properties = self.lineage().flat_map(|class| class.properties.iter());
        properties.find(|property| property.name == name)
    }
}

fn read_constructor(class: &'static Class, given: Option<&Value>) -> Result<Arguments, Fault> {
    let parameters = class.constructor.unwrap_or_default();
    let needs = |need| parameters.iter().any(|parameter| parameter.need == need);
    let empty = Map::new();
    let given = match given {
        Some(Value::Object(members)) => members,
        None | Some(Value::Null) if !needs(Need::Required) => &empty,
        None | Some(Value::Null) => {
            return Err(Fault::marshall("'constructorParams' is required"));
        }
        Some(_) => return Err(Fault::marshall("'constructorParams' should be an object")),
    };
    let arguments = constructor_arguments(parameters, given)?;
    for parameter in parameters {
        if arguments.text(parameter.name).len() > TEXT_BYTES_MAX {
            return Err(too_long(parameter.name));
        }
    }
    Ok(arguments)
}

pub(super) fn too_long(name: &str) -> Fault {
    Fault::marshall(format!("'{name}' parameter is too long"))
}

/// Refuses values that are well-formed and cannot be served.
fn check_values(arguments: &Arguments) -> Result<(), Fault> {
    if arguments.text("mediaProfile") == "KURENTO_SPLIT_RECORDER" {
        let message = "Kurento Split Recorder not supported";
        return Err(Fault::kurento(Fault::ILLEGAL_PARAMETER, message));
    }
    Ok(())
}

/// The media server could not make it.
fn unmade(error: media::Error) -> Fault {
    match error {
        media::Error::Unsupported { .. } => Fault::kurento(Fault::NOT_AVAILABLE, error.to_string()),
        error => Fault::of_media(&error),
    }
}
