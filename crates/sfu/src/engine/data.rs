//! Data channels: messages follow the DATA connections of the graph.
//!
//! A message goes to each receiver's channel of the same label; else to the one it opened first, as
//! old clients have one channel only; else a channel of that label is opened towards it. Messages are
//! not kept: one that finds no open channel, or a receiver that does not read, is lost there.

use std::time::Instant;

use media::{Event, MediaKind};

use super::Engine;
use super::endpoint::{Channel, Endpoint};
use super::graph::ElementKey;
use super::sctp::{ChannelOptions, SctpEvent};
use super::transport::TransportKey;

impl Engine {
    /// Takes in what happened on a transport's data channels.
    pub(super) fn handle_data(&mut self, now: Instant, key: TransportKey, event: SctpEvent) {
        let Some(transport) = self.media.transports.get(key.0) else {
            return;
        };
        let (owner, events) = (transport.owner, transport.events.clone());
        let Some(endpoint) = self.endpoints.get_mut(&owner) else {
            return;
        };
        match &event {
            SctpEvent::Opened { id, .. } => events.send(Event::DataChannelOpened(*id)),
            SctpEvent::Closed { id } => events.send(Event::DataChannelClosed(*id)),
            _ => {}
        }
        match event {
            SctpEvent::Opened {
                id,
                options,
                remote,
            } => {
                let label = options.label;
                if remote {
                    let label = label.clone();
                    endpoint.channels.push(Channel { id, label });
                }
                if remote {
                    self.announce_channel(now, owner, &label);
                }
            }
            SctpEvent::Closed { id } => endpoint.channels.retain(|channel| channel.id != id),
            SctpEvent::Failed => endpoint.channels.clear(),
            SctpEvent::Message { id, binary, data } => {
                let label = endpoint.channels.iter().find(|channel| channel.id == id);
                let Some(label) = label.map(|channel| channel.label.clone()) else {
                    return;
                };
                self.pass_message(now, owner, &label, binary, &data);
            }
            _ => {}
        }
    }

    /// Opens a channel towards those who get the messages of `origin` and have none.
    pub(super) fn announce_channel(&mut self, now: Instant, origin: ElementKey, label: &str) {
        for sink in self.graph.receivers(origin, MediaKind::Data) {
            let waits = |endpoint: &Endpoint| endpoint.channels.is_empty();
            if self.endpoints.get(&sink).is_some_and(waits) {
                self.open_channel(now, sink, label);
            } else {
                self.relay_channel(sink, label);
            }
        }
    }

    /// Sends a message of `origin` to those who get its messages.
    pub(super) fn pass_message(
        &mut self,
        now: Instant,
        origin: ElementKey,
        label: &str,
        binary: bool,
        data: &[u8],
    ) {
        for sink in self.graph.receivers(origin, MediaKind::Data) {
            if !self.relay_message(sink, label, binary, data) {
                self.send_message(now, sink, label, binary, data);
            }
        }
    }

    pub(super) fn send_message(
        &mut self,
        now: Instant,
        sink: ElementKey,
        label: &str,
        binary: bool,
        data: &[u8],
    ) {
        let Some(endpoint) = self.endpoints.get(&sink) else {
            return;
        };
        let Some(key) = self.data_transport(&endpoint.transports) else {
            return;
        };
        let channels = &endpoint.channels;
        let channel = channels
            .iter()
            .find(|channel| channel.label == label)
            .or_else(|| channels.first())
            .map(|channel| channel.id);
        let Some(sctp) = &mut self.media.transports[key.0].sctp else {
            return;
        };
        let sent = match channel {
            Some(id) => sctp.send(now, id, binary, data).is_ok(),
            None => {
                self.open_channel(now, sink, label);
                false
            }
        };
        if sent {
            self.media.counters.messages_forwarded += 1;
        }
        self.drive(now, key);
    }

    /// Opens a channel towards a receiver that has none yet.
    fn open_channel(&mut self, now: Instant, sink: ElementKey, label: &str) {
        let Some(endpoint) = self.endpoints.get(&sink) else {
            return;
        };
        let Some(key) = self.data_transport(&endpoint.transports) else {
            return;
        };
        let options = ChannelOptions {
            label: label.to_owned(),
            ordered: true,
            ..ChannelOptions::default()
        };
        let Some(sctp) = &mut self.media.transports[key.0].sctp else {
            return;
        };
        match sctp.open(now, options) {
            // It counts at once, or every message until the peer confirms it would open another.
            Ok(id) => {
                if let Some(endpoint) = self.endpoints.get_mut(&sink) {
                    let label = label.to_owned();
                    endpoint.channels.push(Channel { id, label });
                }
            }
            Err(error) => tracing::debug!(%error, "cannot open a data channel to a receiver"),
        }
        self.drive(now, key);
    }

    /// Which of an endpoint's transports carries its data channels, if they are up.
    pub(super) fn data_transport(&self, transports: &[TransportKey]) -> Option<TransportKey> {
        let mut transports = transports.iter().copied();
        transports.find(|key| self.media.transports[key.0].sctp.is_some())
    }
}
