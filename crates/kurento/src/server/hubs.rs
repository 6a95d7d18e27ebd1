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

/// Ports whose sounds one port of a mixer may be connected to. Too low: a large conference is refused. Too high: each
/// connection walks over those that the port has.
pub(super) const SOUNDS_PER_SINK_MAX: usize = 1000;

/// What hubs route.
const KINDS: [MediaKind; 2] = [MediaKind::Audio, MediaKind::Video];

/// A port, a kind, and the port that feeds it, if any.
pub(super) type Route = (ObjectKey, MediaKind, Option<ObjectKey>);

impl Server {
    pub(super) fn call_hub(
        &mut self,
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

    /// A sink gets one source of each kind, the last that is connected: adding up sounds needs decoded media.
    fn mix(&self, hub: ObjectKey, arguments: &Arguments) -> Result<Step, Fault> {
        let kind = routed_kind(arguments)?;
        let source = self.port(hub, "source", arguments)?;
        let sink = self.port(hub, "sink", arguments)?;
        let route = (sink, kind, Some(source));
        if kind == MediaKind::Video {
            return self.route(vec![route]);
        }
        let others = self.sounds(sink).filter(|sound| *sound != source).count();
        if others > 0 && self.config.unsupported == Unsupported::Reject {
            let message = "Can not connect video ports";
            return Err(Fault::kurento(Fault::CONNECT, message));
        }
        if others >= SOUNDS_PER_SINK_MAX {
            return Err(Fault::full("connections", SOUNDS_PER_SINK_MAX));
        }
        self.route_sound(source, route)
    }

    /// The ports whose sounds a port of a mixer would add up, by the order in which they were connected.
    fn sounds(&self, sink: ObjectKey) -> impl DoubleEndedIterator<Item = ObjectKey> + '_ {
        let sounds = self.objects.wires.sounds.get(&sink).into_iter().flatten();
        sounds
            .copied()
            .filter(|sound| self.objects.get(*sound).is_some())
    }

    fn unmix(&mut self, hub: ObjectKey, arguments: &Arguments) -> Result<Step, Fault> {
        let kind = routed_kind(arguments)?;
        if kind == MediaKind::Video {
            let message = "Video disconnection is not implemented yet";
            return Err(Fault::kurento(Fault::UNSUPPORTED_MEDIA_TYPE, message));
        }
        let source = self.port(hub, "source", arguments)?;
        let sink = self.port(hub, "sink", arguments)?;
        if !self.sounds(sink).any(|sound| sound == source) {
            let message = "Can not connect video ports";
            return Err(Fault::kurento(Fault::CONNECT, message));
        }
        let left = self.sounds(sink).rfind(|sound| *sound != source);
        let route = (sink, kind, left);
        if self.objects.wires.routes.get(&(sink, kind)) == Some(&source) {
            self.route_sound(source, route)
        } else {
            Ok(Step::Done(self.mixed(source, route)))
        }
    }

    fn route_sound(&self, source: ObjectKey, route: Route) -> Result<Step, Fault> {
        let Some(call) = self.routing_call(route) else {
            return done(Value::Null);
        };
        Ok(Step::Media {
            calls: vec![call],
            after: After::Mixed { source, route },
        })
    }

    /// A source was connected to a sink, or disconnected from it, and this is what it is routed to.
    pub(super) fn mixed(&mut self, source: ObjectKey, route: Route) -> Answer {
        let (sink, _, heard) = route;
        let mut sounds: Vec<_> = self.sounds(sink).filter(|sound| *sound != source).collect();
        sounds.extend(heard.filter(|heard| *heard == source));
        if sounds.is_empty() || self.objects.get(sink).is_none() {
            self.objects.wires.sounds.remove(&sink);
        } else {
            self.objects.wires.sounds.insert(sink, sounds);
        }
        let answer = self.routed(vec![route]);
        // What it should hear may have gone while the media server was at it.
        let routes = &self.objects.wires.routes;
        if !routes.contains_key(&(sink, MediaKind::Audio)) {
            self.hear_others(vec![sink]);
        }
        answer
    }

    /// Ports of mixers hear another source when theirs is gone, if they were connected to more.
    pub(super) fn hear_others(&mut self, sinks: Vec<ObjectKey>) {
        let routes = sinks.into_iter().filter_map(|sink| {
            let left = self.sounds(sink).next_back()?;
            Some((sink, MediaKind::Audio, Some(left)))
        });
        self.route_unasked(routes.collect());
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
        let routes = routes.into_iter().filter(|route| route.2.is_some());
        self.route_unasked(routes.collect());
    }

    /// Nobody waits for it.
    fn route_unasked(&mut self, routes: Vec<Route>) {
        let calls: Vec<_> = routes
            .iter()
            .filter_map(|route| self.routing_call(*route))
            .collect();
        if !calls.is_empty() {
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
                let instead = ": this port gets the last source only";
                self.complain_about_mixing(*sink, &[&elements::MIXER], instead);
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
