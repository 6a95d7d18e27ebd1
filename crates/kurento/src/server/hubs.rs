//! Hubs: which of their ports feeds which.

use media::MediaKind;
use serde_json::Value;

use super::Server;
use super::config::Unsupported;
use super::operations::done;
use super::requests::{Answer, Outcome, Step};
use super::wiring::kind_named;
use super::work::{After, Call, ObjectKey};
use crate::fault::Fault;
use crate::model::marshal::Arguments;
use crate::model::{core, elements};

/// What hubs route.
const KINDS: [MediaKind; 2] = [MediaKind::Audio, MediaKind::Video];

/// A port, a kind, and the port that feeds it, if any.
type Route = (ObjectKey, MediaKind, Option<ObjectKey>);

impl Server {
    pub(super) fn call_hub(
        &self,
        hub: ObjectKey,
        class: &str,
        method: &str,
        arguments: &Arguments,
    ) -> Result<Step, Fault> {
        match (class, method) {
            ("Dispatcher", _) => {
                let source = self.port(hub, "source", arguments)?;
                let sink = self.port(hub, "sink", arguments)?;
                self.route(KINDS.map(|kind| (sink, kind, Some(source))).to_vec())
            }
            ("DispatcherOneToMany", "setSource") => {
                let source = self.port(hub, "source", arguments)?;
                self.route(self.to_all_ports(hub, Some(source)))
            }
            ("DispatcherOneToMany", _) => self.route(self.to_all_ports(hub, None)),
            ("Mixer", "connect") => self.mix(hub, arguments),
            ("Mixer", _) => self.unmix(hub, arguments),
            _ => {
                // Blending needs decoded media: the ports are checked, and that is all.
                let name = if method == "setMaster" {
                    "source"
                } else {
                    "port"
                };
                self.port(hub, name, arguments)?;
                done(Value::Null)
            }
        }
    }

    /// A port that an argument names. The real server crashes when it is something else.
    fn port(&self, hub: ObjectKey, name: &str, arguments: &Arguments) -> Result<ObjectKey, Fault> {
        let port = self
            .objects
            .find_as(name, arguments.text(name), &core::HUB_PORT)?;
        if self.objects.known(port)?.parent == Some(hub) {
            return Ok(port);
        }
        Err(Fault::kurento(Fault::CONNECT, "Can not connect ports"))
    }

    fn to_all_ports(&self, hub: ObjectKey, source: Option<ObjectKey>) -> Vec<Route> {
        let ports = self.objects.get(hub).map(|hub| hub.children.clone());
        let ports = ports.unwrap_or_default().into_iter();
        ports
            .flat_map(|port| KINDS.map(|kind| (port, kind, source)))
            .collect()
    }

    /// A sink gets one source of each kind, the last: adding up sounds needs decoded media.
    fn mix(&self, hub: ObjectKey, arguments: &Arguments) -> Result<Step, Fault> {
        let kind = routed_kind(arguments)?;
        let source = self.port(hub, "source", arguments)?;
        let sink = self.port(hub, "sink", arguments)?;
        let former = self.objects.wires.routes.get(&(sink, kind));
        let adds_up = kind == MediaKind::Audio && former.is_some_and(|former| *former != source);
        if adds_up && self.config.unsupported == Unsupported::Reject {
            let message = "Can not connect video ports";
            return Err(Fault::kurento(Fault::CONNECT, message));
        }
        self.route(vec![(sink, kind, Some(source))])
    }

    fn unmix(&self, hub: ObjectKey, arguments: &Arguments) -> Result<Step, Fault> {
        let kind = routed_kind(arguments)?;
        if kind == MediaKind::Video {
            let message = "Video disconnection is not implemented yet";
            return Err(Fault::kurento(Fault::UNSUPPORTED_MEDIA_TYPE, message));
        }
        let source = self.port(hub, "source", arguments)?;
        let sink = self.port(hub, "sink", arguments)?;
        if self.objects.wires.routes.get(&(sink, kind)) != Some(&source) {
            // It may have been connected, and another one came.
            if self.objects.get(sink).is_some_and(|sink| sink.complained) {
                return done(Value::Null);
            }
            let message = "Can not connect video ports";
            return Err(Fault::kurento(Fault::CONNECT, message));
        }
        self.route(vec![(sink, kind, None)])
    }

    fn route(&self, routes: Vec<Route>) -> Result<Step, Fault> {
        let calls: Vec<_> = routes
            .iter()
            .filter_map(|route| self.routing_call(*route))
            .collect();
        if calls.is_empty() {
            return done(Value::Null);
        }
        let after = After::Routed(routes);
        Ok(Step::Media { calls, after })
    }

    fn routing_call(&self, (sink, kind, source): Route) -> Option<Call> {
        let former = self.objects.wires.routes.get(&(sink, kind)).copied();
        let output = self.objects.get(sink)?.output()?.clone();
        let input = |port| Some(self.objects.get(port)?.input()?.clone());
        let kind = Some(kind);
        Some(match source {
            Some(source) => Call::Connect {
                source: input(source)?,
                sink: output,
                kind,
            },
            None => Call::Disconnect {
                source: input(former?)?,
                sink: output,
                kind,
            },
        })
    }

    /// A port that is added to a broadcasting hub gets what the others get.
    pub(super) fn join_broadcast(&mut self, port: ObjectKey) {
        let Some(hub) = self.objects.get(port).and_then(|port| port.parent) else {
            return;
        };
        let Some(hub) = self.objects.get(hub) else {
            return;
        };
        if !hub.class.is(&elements::DISPATCHER_ONE_TO_MANY) {
            return;
        }
        let routes = &self.objects.wires.routes;
        let source = |kind| {
            hub.children
                .iter()
                .find_map(|port| routes.get(&(*port, kind)))
        };
        let routes = KINDS.map(|kind| (port, kind, source(kind).copied()));
        let routes: Vec<_> = routes
            .into_iter()
            .filter(|route| route.2.is_some())
            .collect();
        let calls: Vec<_> = routes
            .iter()
            .filter_map(|route| self.routing_call(*route))
            .collect();
        if !calls.is_empty() {
            // Nobody waits for it: the port can be made without.
            self.call_unasked(calls);
            // Never fails.
            let _ = self.routed(routes);
        }
    }

    pub(super) fn routed(&mut self, routes: Vec<Route>) -> Answer {
        for (sink, kind, source) in &routes {
            let both_exist = self.objects.get(*sink).is_some()
                && source.is_none_or(|source| self.objects.get(source).is_some());
            let former = match source.filter(|_| both_exist) {
                Some(source) => self.objects.wires.routes.insert((*sink, *kind), source),
                None => self.objects.wires.routes.remove(&(*sink, *kind)),
            };
            let is_replaced = former.is_some() && source.is_some() && former != *source;
            if *kind == MediaKind::Audio && is_replaced {
                self.complain_about_mixing(*sink, &[&elements::MIXER]);
            }
        }
        if let Some((port, ..)) = routes.first() {
            self.refresh_flows_around(*port);
        }
        Ok(Outcome::Value(Value::Null))
    }
}

fn routed_kind(arguments: &Arguments) -> Result<MediaKind, Fault> {
    match kind_named(arguments.text("media")) {
        Some(kind) if kind != MediaKind::Data => Ok(kind),
        _ => {
            let message = "Data is not mixed";
            Err(Fault::kurento(Fault::UNSUPPORTED_MEDIA_TYPE, message))
        }
    }
}
