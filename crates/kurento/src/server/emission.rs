//! Events on their way to whoever subscribed.

use serde_json::{Map, Value, json};

use super::Server;
use super::objects::{Object, Objects, Subscriber};
use super::sessions::SessionName;
use super::work::ObjectKey;
use crate::model::marshal::register;
use crate::model::{EventType, events};
use crate::wire;

impl Server {
    /// Sends an event of an object to every session that asked for it and has a connection. What
    /// happens while a session has none is lost to it.
    pub(super) fn emit(&mut self, source: ObjectKey, event: &'static EventType, own: Value) {
        let Some(object) = self.objects.get(source) else {
            return;
        };
        let mut messages = Vec::new();
        for subscriber in &object.subscribers {
            if !std::ptr::eq(subscriber.event, event) {
                continue;
            }
            if let Some(connection) = self.connections.route(&subscriber.session) {
                let data = self.event_data(object, event, subscriber.name, &own);
                let text = wire::event(&object.id, subscriber.name, data).to_string();
                messages.push((connection, text));
            }
        }
        for (connection, text) in messages {
            self.totals.events += 1;
            self.send(connection, text);
        }
    }

    fn event_data(
        &self,
        source: &Object,
        event: &EventType,
        name: &str,
        own: &Value,
    ) -> Map<String, Value> {
        let mut data = own.as_object().cloned().unwrap_or_default();
        let tags = if source.flag("sendTagsInEvents") {
            source.tag_values()
        } else {
            json!([])
        };
        let (unix, unix_ms) = (self.clock.unix(), self.clock.unix_ms());
        data.insert("source".to_owned(), json!(&*source.id));
        data.insert("tags".to_owned(), tags);
        // Version 6 has seconds, version 7 milliseconds; both as text.
        data.insert("timestamp".to_owned(), unix.as_secs().to_string().into());
        data.insert("timestampMillis".to_owned(), unix_ms.to_string().into());
        if event.names_itself {
            data.insert("type".to_owned(), name.into());
        }
        data
    }

    pub(super) fn emit_error(
        &mut self,
        source: ObjectKey,
        kind: &str,
        code: i32,
        description: &str,
    ) {
        let own = json!({ "description": description, "errorCode": code, "type": kind });
        self.emit(source, &events::ERROR, own);
    }

    pub(super) fn emit_created(&mut self, object: ObjectKey) {
        let own = json!({ "object": self.objects.id(object) });
        self.emit(Objects::MANAGER, &events::OBJECT_CREATED, own);
    }

    pub(super) fn emit_destroyed(&mut self, id: &str) {
        let own = json!({ "objectId": id });
        self.emit(Objects::MANAGER, &events::OBJECT_DESTROYED, own);
    }
}

impl Object {
    /// Its tags, sorted by key.
    pub(super) fn tag_values(&self) -> Value {
        let tags = self.tags.iter();
        tags.map(|(key, value)| register("Tag", json!({ "key": key, "value": value })))
            .collect()
    }

    pub(super) fn add_subscription(
        &mut self,
        session: &SessionName,
        event: &'static EventType,
        name: &'static str,
        id: String,
    ) {
        let mut same = self.subscribers.iter_mut();
        match same.find(|other| other.session == *session && other.name == name) {
            Some(subscriber) => subscriber.ids.push(id),
            None => self.subscribers.push(Subscriber {
                session: session.clone(),
                event,
                name,
                ids: vec![id],
            }),
        }
    }

    /// Number of subscriptions of a session to an event.
    pub(super) fn subscriptions(&self, session: &SessionName, name: &str) -> usize {
        let mut same = self.subscribers.iter();
        let found = same.find(|other| other.session == *session && other.name == name);
        found.map_or(0, |subscriber| subscriber.ids.len())
    }

    /// False if there is no such subscription.
    pub(super) fn remove_subscription(&mut self, session: &SessionName, id: &str) -> bool {
        let mut own = self
            .subscribers
            .iter_mut()
            .filter(|other| other.session == *session);
        let found = own.any(|subscriber| {
            let place = subscriber.ids.iter().position(|known| known == id);
            place.is_some_and(|place| {
                subscriber.ids.swap_remove(place);
                true
            })
        });
        self.subscribers.retain(|other| !other.ids.is_empty());
        found
    }
}
