//! The methods of sessions and references.

use serde_json::Map;

use super::super::Server;
use super::super::objects::{Objects, SUBSCRIPTIONS_PER_EVENT_MAX};
use super::super::sessions::{SUBSCRIPTIONS_PER_SESSION_MAX, SessionName};
use super::super::work::After;
use super::{Answer, Outcome, Params, Step};
use crate::fault::Fault;
use crate::uuid;

impl Server {
    pub(super) fn connect(&self, session: &SessionName) -> Answer {
        if self.sessions.exists(session) {
            Ok(self.connected(session))
        } else {
            Err(invalid_session())
        }
    }

    pub(super) fn connected(&self, session: &str) -> Outcome {
        let mut members = Map::new();
        members.insert("serverId".to_owned(), self.id.clone().into());
        members.insert("sessionId".to_owned(), session.into());
        Outcome::Members(members)
    }

    pub(super) fn keep_alive(&self, session: &SessionName) -> Answer {
        if self.sessions.exists(session) {
            Ok(Outcome::Members(Map::new()))
        } else {
            Err(invalid_session())
        }
    }

    pub(super) fn subscribe(&mut self, params: &Params, session: &SessionName) -> Answer {
        let name = params.text("type")?;
        let key = self.objects.find(&params.text("object")?)?;
        self.reference(session, key)?;
        let object = self.objects.known(key)?;
        let (event, name) = object.class.event(&name).ok_or_else(|| {
            let message = format!("Event '{name}' not supported");
            Fault::kurento(Fault::EVENT_NOT_SUPPORTED, message)
        })?;
        if object.subscriptions(session, name) >= SUBSCRIPTIONS_PER_EVENT_MAX {
            let limit = SUBSCRIPTIONS_PER_EVENT_MAX;
            return Err(Fault::full("subscriptions", limit));
        }
        if let Some(session) = self.sessions.get_mut(session) {
            if session.subscriptions >= SUBSCRIPTIONS_PER_SESSION_MAX {
                return Err(Fault::full("subscriptions", SUBSCRIPTIONS_PER_SESSION_MAX));
            }
            session.subscriptions += 1;
        }
        let id = uuid::random();
        let object = self.objects.known_mut(key)?;
        object.add_subscription(session, event, name, id.clone());
        Ok(Outcome::Value(id.into()))
    }

    /// Succeeds whatever is named: clients unsubscribe from objects that they have released.
    pub(super) fn unsubscribe(&mut self, params: &Params, session: &SessionName) -> Answer {
        let (object, subscription) = (params.text("object")?, params.text("subscription")?);
        let key = self.objects.find(&object).ok();
        let object = key.and_then(|key| self.objects.get_mut(key));
        if object.is_some_and(|object| object.remove_subscription(session, &subscription)) {
            self.sessions.unsubscribe(session, 1);
        }
        Ok(Outcome::Members(Map::new()))
    }

    pub(super) fn describe(&mut self, params: &Params, session: &SessionName) -> Answer {
        let key = self.objects.find(&params.text("object")?)?;
        self.reference(session, key)?;
        let class = self.objects.known(key)?.class;
        let qualified = |name: &str| format!("kurento.{name}");
        let bases = class.lineage().skip(1).map(|base| qualified(base.name));
        let mut members = Map::new();
        members.insert("hierarchy".to_owned(), bases.collect::<Vec<_>>().into());
        members.insert("qualifiedType".to_owned(), qualified(class.name).into());
        members.insert("type".to_owned(), class.name.into());
        Ok(Outcome::Members(members))
    }

    /// Files are complete when this is answered.
    pub(super) fn release(&mut self, params: &Params) -> Result<Step, Fault> {
        let object = params.text("object")?;
        if let Ok(key) = self.objects.find(&object)
            && key != Objects::MANAGER
        {
            let calls = self.completing_calls(key);
            if !calls.is_empty() {
                let after = After::Completed(key);
                return Ok(Step::Media { calls, after });
            }
            self.destroy(key);
        }
        Ok(Step::Done(Ok(Outcome::Members(Map::new()))))
    }

    pub(super) fn reference_object(&mut self, params: &Params, session: &SessionName) -> Answer {
        let key = self.objects.find(&params.text("object")?)?;
        self.reference(session, key)?;
        Ok(Outcome::Members(Map::new()))
    }

    pub(super) fn unreference_object(&mut self, params: &Params, session: &SessionName) -> Answer {
        let object = params.text("object")?;
        if let Ok(key) = self.objects.find(&object) {
            self.unreference(session, key);
        }
        Ok(Outcome::Members(Map::new()))
    }
}

fn invalid_session() -> Fault {
    Fault::kurento(Fault::INVALID_SESSION, "Invalid session")
}
