//! Candidates, data channels and key frames: what needs the transport of an endpoint.

use media::{DataChannelOptions, ElementId, IceCandidate, IceState, MediaKind};
use serde_json::Value;

use super::super::Server;
use super::super::description;
use super::super::lifecycle;
use super::super::objects::flow_index;
use super::super::operations::done;
use super::super::requests::Step;
use super::super::work::{After, Call, ObjectKey};
use super::CANDIDATES_MAX;
use crate::fault::Fault;
use crate::model::marshal::Arguments;

/// Bytes of a candidate and of the name of its section, which the media server takes no longer either; browsers' have
/// 200 and 2. Too low: candidates with many extensions are refused. Too high: each endpoint keeps hundreds of them.
const CANDIDATE_BYTES_MAX: usize = 512;
const MID_BYTES_MAX: usize = 64;

impl Server {
    pub(super) fn gather_candidates(&mut self, key: ObjectKey) -> Result<Step, Fault> {
        let element = self.element(key)?;
        let endpoint = self.endpoint_mut(key)?;
        if endpoint.local.is_none() {
            // The real server finds no transport then, and candidates never come.
            endpoint.gathers_early = true;
            return done(Value::Null);
        }
        self.set_ice(key, 1, IceState::Gathering);
        Ok(Step::Media {
            calls: vec![Call::GatherCandidates { element }],
            after: After::Gathered,
        })
    }

    pub(super) fn add_candidate(
        &mut self,
        key: ObjectKey,
        value: Option<&Value>,
    ) -> Result<Step, Fault> {
        let element = self.element(key)?;
        let refused = || Fault::kurento(Fault::ADD_CANDIDATE, "Error adding candidate");
        let text = |name| {
            value
                .and_then(|value| value.get(name)?.as_str())
                .unwrap_or_default()
        };
        let (line, mid) = (text("candidate"), text("sdpMid"));
        if line.len() > CANDIDATE_BYTES_MAX || mid.len() > MID_BYTES_MAX {
            return Err(lifecycle::too_long("candidate"));
        }
        if line.is_empty() {
            return done(Value::Null);
        }
        let index = value.and_then(|value| value.get("sdpMLineIndex")?.as_u64());
        let index = index.and_then(|index| u16::try_from(index).ok());
        let endpoint = self.endpoint_mut(key)?;
        let section = match &endpoint.local {
            Some(local) => description::section(local, index, mid).ok_or_else(refused)?,
            None => index.unwrap_or_default(),
        };
        let candidate = IceCandidate {
            candidate: line.strip_prefix("a=").unwrap_or(line).to_owned(),
            sdp_mid: mid.to_owned(),
            sdp_m_line_index: section,
        };
        if endpoint.remote_candidates.len() >= CANDIDATES_MAX {
            return Err(refused());
        }
        endpoint.remote_candidates.push(candidate.clone());
        if endpoint.local.is_none() {
            endpoint.early_candidates.push(candidate);
            return done(Value::Null);
        }
        Ok(Step::Media {
            calls: vec![Call::AddIceCandidate { element, candidate }],
            after: After::CandidateAdded,
        })
    }

    pub(super) fn create_data_channel(
        &self,
        key: ObjectKey,
        arguments: &Arguments,
    ) -> Result<Step, Fault> {
        let element = self.data_element(key)?;
        let bound = |name| u16::try_from(arguments.integer(name)).ok();
        let options = DataChannelOptions {
            label: arguments.text("label").to_owned(),
            ordered: arguments.flag("ordered"),
            max_packet_life_time_ms: bound("maxPacketLifeTime"),
            max_retransmits: bound("maxRetransmits"),
            protocol: arguments.text("protocol").to_owned(),
        };
        if options.max_packet_life_time_ms.is_some() && options.max_retransmits.is_some() {
            return Err(Fault::kurento(Fault::ILLEGAL_PARAMETER, "Syntax error"));
        }
        Ok(Step::Media {
            calls: vec![Call::CreateDataChannel { element, options }],
            after: After::DataChannel,
        })
    }

    pub(super) fn close_data_channel(
        &self,
        key: ObjectKey,
        arguments: &Arguments,
    ) -> Result<Step, Fault> {
        let element = self.data_element(key)?;
        let Ok(stream) = u16::try_from(arguments.integer("channelId")) else {
            return done(Value::Null);
        };
        Ok(Step::Media {
            calls: vec![Call::CloseDataChannel { element, stream }],
            after: After::DataChannel,
        })
    }

    fn data_element(&self, key: ObjectKey) -> Result<ElementId, Fault> {
        let object = self.objects.known(key)?;
        let negotiated = self.endpoint(key)?.local.is_some();
        if !negotiated || !object.flag("useDataChannels") {
            let message = "Data channels are not supported";
            return Err(Fault::kurento(Fault::OPERATION_NOT_SUPPORTED, message));
        }
        self.element(key)
    }

    pub(super) fn call_if_sending(&self, key: ObjectKey, call: Call) -> Result<Step, Fault> {
        let flows = self.objects.known(key)?.flows;
        if flow_index(MediaKind::Video).is_none_or(|video| !flows.into[video]) {
            let message = "Keyframe request failed (must be requested from a subscriber element)";
            return Err(Fault::kurento(Fault::OPERATION_NOT_SUPPORTED, message));
        }
        Ok(Step::Media {
            calls: vec![call],
            after: After::KeyFrameRequested,
        })
    }
}
