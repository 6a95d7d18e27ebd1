//! What the application asks of a connected endpoint: key frames and data channels.
//!
//! The methods have the shapes of [`media::MediaServer`].

use std::time::Instant;

use media::{DataChannelOptions, ElementId, Error};

use super::Engine;
use super::endpoint::Channel;
use super::graph::ElementKey;
use super::sctp::{ChannelOptions, Reliability, SctpError};
use super::transport::TransportKey;

/// Kurento's number and name of what has no better one.
const UNEXPECTED: (i32, &str) = (40003, "UNEXPECTED_ERROR");

impl Engine {
    /// Asks the source of the video that this endpoint sends for a key frame.
    pub fn request_key_frame(&mut self, now: Instant, id: &ElementId) -> Result<(), Error> {
        let operation = "requestKeyframe";
        let key = self.endpoint_key(id, operation)?;
        let subscriber = self.endpoints[&key].video.subscriber;
        let subscriber = subscriber.ok_or_else(|| Error::Unsupported {
            element: id.clone(),
            operation,
        })?;
        self.media.request_key_frame(now, subscriber);
        self.arm_source_of(subscriber);
        Ok(())
    }

    /// Opens a data channel towards the peer. That it did is told by an event.
    pub fn create_data_channel(
        &mut self,
        now: Instant,
        id: &ElementId,
        options: DataChannelOptions,
    ) -> Result<(), Error> {
        let (owner, key) = self.data_of(id, "createDataChannel")?;
        let label = options.label.clone();
        let options = ChannelOptions {
            label: options.label,
            protocol: options.protocol,
            ordered: options.ordered,
            reliability: match (options.max_retransmits, options.max_packet_life_time_ms) {
                (Some(count), _) => Reliability::MaxRetransmits(count),
                (None, Some(ms)) => Reliability::MaxLifetimeMs(ms),
                (None, None) => Reliability::Reliable,
            },
        };
        let sctp = self.media.transports[key.0].sctp.as_mut();
        let opened = sctp
            .ok_or(SctpError::Closed)
            .and_then(|sctp| sctp.open(now, options));
        let channel = opened.map_err(|error| refused(error.to_string()))?;
        if let Some(endpoint) = self.endpoints.get_mut(&owner) {
            endpoint.channels.push(Channel { id: channel, label });
        }
        self.drive(now, key);
        Ok(())
    }

    /// Closes the data channel on an SCTP stream, or nothing.
    pub fn close_data_channel(
        &mut self,
        now: Instant,
        id: &ElementId,
        stream: u16,
    ) -> Result<(), Error> {
        let (_, key) = self.data_of(id, "closeDataChannel")?;
        if let Some(sctp) = &mut self.media.transports[key.0].sctp {
            sctp.close(now, stream);
        }
        self.drive(now, key);
        Ok(())
    }

    /// An endpoint whose data channels are up, and the transport that carries them.
    fn data_of(
        &self,
        id: &ElementId,
        operation: &'static str,
    ) -> Result<(ElementKey, TransportKey), Error> {
        let owner = self.web_endpoint_key(id, operation)?;
        let endpoint = &self.endpoints[&owner];
        if !endpoint.data_channels {
            let element = id.clone();
            return Err(Error::Unsupported { element, operation });
        }
        let key = self.data_transport(&endpoint.transports);
        let key = key.ok_or_else(|| refused("data channels are not connected".to_owned()))?;
        Ok((owner, key))
    }
}

fn refused(message: String) -> Error {
    let (code, kind) = UNEXPECTED;
    Error::Refused {
        code,
        kind: kind.to_owned(),
        message,
    }
}
