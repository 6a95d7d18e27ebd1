//! The objects and what each has.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use media::{ElementId, FileState, MediaKind, PipelineId};
use serde_json::Value;

use super::endpoints::Endpoint;
use super::sessions::SessionName;
use super::wiring::Wires;
use super::work::ObjectKey;
use crate::fault::Fault;
use crate::model::{Class, EventType, core};

/// The id of the one object that always exists.
pub(crate) const MANAGER_ID: &str = "manager_ServerManager";
/// Tags of one object. They are copied into its events.
pub(super) const TAGS_MAX: usize = 64;
/// Bytes of the key or the value of a tag.
pub(super) const TAG_BYTES_MAX: usize = 1024;
/// Subscriptions of one session to one event of one object, which all stand for one stream.
pub(super) const SUBSCRIPTIONS_PER_EVENT_MAX: usize = 1000;

/// Every object, and how they are wired.
#[derive(Debug)]
pub(super) struct Objects {
    made: u64,
    all: BTreeMap<ObjectKey, Object>,
    keys: HashMap<Arc<str>, ObjectKey>,
    pub(super) wires: Wires,
}

/// An instance of a [`Class`].
#[derive(Debug)]
pub(super) struct Object {
    pub(super) key: ObjectKey,
    pub(super) id: Arc<str>,
    pub(super) class: &'static Class,
    pub(super) parent: Option<ObjectKey>,
    pub(super) pipeline: Option<ObjectKey>,
    pub(super) children: Vec<ObjectKey>,
    pub(super) sessions: HashSet<SessionName>,
    pub(super) created_unix_s: u64,
    pub(super) name: String,
    pub(super) tags: BTreeMap<String, String>,
    /// What was set, by the name of the property.
    pub(super) properties: BTreeMap<&'static str, Value>,
    pub(super) subscribers: Vec<Subscriber>,
    pub(super) media: Media,
    pub(super) flows: Flows,
    /// Which media its peer or its file sends. Audio first, then video.
    pub(super) receives: [bool; 2],
    pub(super) endpoint: Option<Box<Endpoint>>,
    /// Of a player or recorder.
    pub(super) file: Option<FileState>,
    /// A recorder that was told to record, and has not told that its file is complete.
    pub(super) records: bool,
    /// Of a pipeline: the codec of its first video.
    pub(super) video_codec: Option<String>,
    /// An `Error` event said that this object cannot do what it was made for.
    pub(super) complained: bool,
}

/// What stands for the object in the media server.
#[derive(Clone, Debug)]
pub(super) enum Media {
    None,
    Pipeline(PipelineId),
    Element(ElementId),
    /// A hub port: what it gets, and what comes out of it.
    Port {
        input: ElementId,
        output: ElementId,
    },
}

/// Which media flow, as clients were told. Audio first, then video.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Flows {
    pub(super) into: [bool; 2],
    pub(super) out: [bool; 2],
    /// The client was told that nothing is transcoded.
    pub(super) announced: [bool; 2],
}

impl Flows {
    /// Whether anything flows, in or out.
    pub(super) fn any(self) -> bool {
        self.into.into_iter().chain(self.out).any(|flows| flows)
    }
}

/// The stream of one event to one session, under one of its names.
#[derive(Debug)]
pub(super) struct Subscriber {
    pub(super) session: SessionName,
    pub(super) event: &'static EventType,
    pub(super) name: &'static str,
    pub(super) ids: Vec<String>,
}

/// Where the state of a kind is in [`Flows`]; data does not count.
pub(super) fn flow_index(kind: MediaKind) -> Option<usize> {
    match kind {
        MediaKind::Audio => Some(0),
        MediaKind::Video => Some(1),
        MediaKind::Data => None,
    }
}

impl Objects {
    pub(super) const MANAGER: ObjectKey = ObjectKey(0);

    pub(super) fn new(now_unix_s: u64) -> Self {
        let mut objects = Self {
            made: 0,
            all: BTreeMap::new(),
            keys: HashMap::new(),
            wires: Wires::default(),
        };
        let id: Arc<str> = MANAGER_ID.into();
        let manager = Object::new(Self::MANAGER, id, &core::SERVER_MANAGER, now_unix_s);
        objects.insert(manager);
        objects
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// A key for an object that is about to be made.
    pub(super) fn next_key(&mut self) -> ObjectKey {
        self.made += 1;
        ObjectKey(self.made)
    }

    pub(super) fn insert(&mut self, object: Object) {
        if let Some(parent) = object.parent.and_then(|parent| self.all.get_mut(&parent)) {
            parent.children.push(object.key);
        }
        self.keys.insert(object.id.clone(), object.key);
        self.all.insert(object.key, object);
    }

    pub(super) fn remove(&mut self, key: ObjectKey) -> Option<Object> {
        let object = self.all.remove(&key)?;
        self.keys.remove(&object.id);
        if let Some(parent) = object.parent.and_then(|parent| self.all.get_mut(&parent)) {
            parent.children.retain(|child| *child != key);
        }
        Some(object)
    }

    pub(super) fn get(&self, key: ObjectKey) -> Option<&Object> {
        self.all.get(&key)
    }

    pub(super) fn get_mut(&mut self, key: ObjectKey) -> Option<&mut Object> {
        self.all.get_mut(&key)
    }

    /// An object that the caller has just found.
    pub(super) fn known(&self, key: ObjectKey) -> Result<&Object, Fault> {
        self.all
            .get(&key)
            .ok_or_else(|| Fault::object_not_found(""))
    }

    pub(super) fn known_mut(&mut self, key: ObjectKey) -> Result<&mut Object, Fault> {
        self.all
            .get_mut(&key)
            .ok_or_else(|| Fault::object_not_found(""))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Object> {
        self.all.values()
    }

    /// Finds an object by its id.
    pub(super) fn find(&self, id: &str) -> Result<ObjectKey, Fault> {
        if let Some(key) = self.keys.get(id) {
            return Ok(*key);
        }
        Err(if id.starts_with("newref:") {
            let message = format!(
                "Object '{id}' not found. Possibly using a transactional object without \
                 committing the transaction."
            );
            Fault::kurento(Fault::OUTSIDE_TRANSACTION, message)
        } else {
            Fault::object_not_found(id)
        })
    }

    /// Finds an argument, which must be of a class. The real server crashes on some that are not.
    pub(super) fn find_as(
        &self,
        parameter: &str,
        id: &str,
        class: &'static Class,
    ) -> Result<ObjectKey, Fault> {
        let key = self.find(id)?;
        if self.known(key)?.class.is(class) {
            return Ok(key);
        }
        let class = class.name;
        let message = format!("'{parameter}' parameter should be a {class}");
        Err(Fault::marshall(message))
    }

    /// The object and everything below it, children before parents.
    pub(super) fn subtree(&self, key: ObjectKey) -> Vec<ObjectKey> {
        let mut found = vec![key];
        let mut next = 0;
        while let Some(object) = found.get(next).and_then(|key| self.all.get(key)) {
            found.extend(&object.children);
            next += 1;
        }
        found.reverse();
        found
    }

    /// The object and everything above it.
    pub(super) fn ancestry(&self, key: ObjectKey) -> Vec<ObjectKey> {
        let parent = |key: &ObjectKey| self.all.get(key)?.parent;
        std::iter::successors(Some(key), parent).collect()
    }

    /// The id of an object, empty if it is gone.
    pub(super) fn id(&self, key: ObjectKey) -> &str {
        self.all.get(&key).map_or("", |object| &object.id)
    }
}

impl Object {
    pub(super) fn new(
        key: ObjectKey,
        id: Arc<str>,
        class: &'static Class,
        created_unix_s: u64,
    ) -> Self {
        Self {
            key,
            name: id.to_string(),
            id,
            class,
            parent: None,
            pipeline: None,
            children: Vec::new(),
            sessions: HashSet::new(),
            created_unix_s,
            tags: BTreeMap::new(),
            properties: BTreeMap::new(),
            subscribers: Vec::new(),
            media: Media::None,
            flows: Flows::default(),
            receives: [false; 2],
            endpoint: None,
            file: None,
            records: false,
            video_codec: None,
            complained: false,
        }
    }

    /// Where media that is sent to this object goes.
    pub(super) fn input(&self) -> Option<&ElementId> {
        match &self.media {
            Media::Element(id) | Media::Port { input: id, .. } => Some(id),
            Media::None | Media::Pipeline(_) => None,
        }
    }

    /// Where media of this object comes from.
    pub(super) fn output(&self) -> Option<&ElementId> {
        match &self.media {
            Media::Element(id) | Media::Port { output: id, .. } => Some(id),
            Media::None | Media::Pipeline(_) => None,
        }
    }

    /// Whether a property that is stored is true.
    pub(super) fn flag(&self, property: &str) -> bool {
        let value = self.properties.get(property);
        value.and_then(Value::as_bool).unwrap_or_default()
    }
}
