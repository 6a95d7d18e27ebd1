//! What the media server tells, in the words of the protocol.

use media::{DtlsState, Event, IceState, MediaState};
use serde_json::json;

use super::Server;
use super::endpoints::{Endpoint, dtls_members, ice_name, pair};
use super::objects::flow_index;
use super::view::View;
use super::work::ObjectKey;
use crate::model::marshal::register;
use crate::model::{elements, events};

/// RTP, and everything that is bundled with it.
const COMPONENT: u8 = 1;

impl Server {
    pub(super) fn media_event(&mut self, key: ObjectKey, event: Event) {
        match event {
            Event::IceCandidateFound(mut candidate) => {
                let Some(shown) = self.view(key).candidate(&candidate.candidate) else {
                    return;
                };
                candidate.candidate = shown;
                if let Some(endpoint) = self.endpoint_state(key) {
                    endpoint.note_local_candidate(&candidate);
                }
                let members = json!({
                    "candidate": candidate.candidate,
                    "sdpMid": candidate.sdp_mid,
                    "sdpMLineIndex": candidate.sdp_m_line_index,
                });
                let own = json!({ "candidate": register("IceCandidate", members) });
                self.emit(key, &events::ICE_CANDIDATE_FOUND, own);
            }
            Event::IceGatheringDone => {
                self.set_ice(key, COMPONENT, IceState::Connecting);
                self.emit(key, &events::ICE_GATHERING_DONE, json!({}));
            }
            Event::IceStateChanged { component, state } => self.set_ice(key, component, state),
            Event::CandidatePairSelected {
                component,
                local,
                remote,
            } => {
                let own = json!({ "candidatePair": pair(component, &local, &remote) });
                if let Some(endpoint) = self.endpoint_state(key) {
                    endpoint.pairs.insert(component, (local, remote));
                }
                self.emit(key, &events::NEW_CANDIDATE_PAIR_SELECTED, own);
            }
            Event::DtlsStateChanged(state) => self.set_dtls(key, state),
            Event::MediaStateChanged(state) => {
                self.transport_changed(key, state == MediaState::Connected);
            }
            Event::PeerHeard(heard) => {
                let endpoint = self.endpoint_state(key);
                if endpoint.is_some_and(|it| it.connected) {
                    self.set_media_connected(key, heard);
                }
            }
            Event::MediaFlowInChanged { kind, flowing } => {
                let object = self.objects.get_mut(key);
                if let Some((object, index)) = object.zip(flow_index(kind)) {
                    object.receives[index] = flowing;
                }
                self.refresh_flows_around(key);
            }
            Event::DataChannelOpened(stream) => {
                if let Some(endpoint) = self.endpoint_state(key) {
                    endpoint.channels_opened += 1;
                }
                self.emit(
                    key,
                    &events::DATA_CHANNEL_OPENED,
                    json!({ "channelId": stream }),
                );
            }
            Event::DataChannelClosed(stream) => {
                if let Some(endpoint) = self.endpoint_state(key) {
                    endpoint.channels_closed += 1;
                }
                self.emit(
                    key,
                    &events::DATA_CHANNEL_CLOSED,
                    json!({ "channelId": stream }),
                );
            }
            Event::FileStateChanged(state) => self.file_changed(key, state),
            Event::RecordingChanged(recording) => self.recording_changed(key, recording),
            Event::EndOfStream => self.file_ended(key),
            Event::Error {
                kind,
                description,
                code,
            } => self.emit_error(key, kind.as_str(), code, &description),
            // The seam may learn more; what has no name in the protocol is not told.
            _ => {}
        }
    }

    /// How its properties want the addresses of an endpoint to be seen.
    pub(super) fn view(&self, key: ObjectKey) -> View {
        self.objects.get(key).map(View::of).unwrap_or_default()
    }

    fn endpoint_state(&mut self, key: ObjectKey) -> Option<&mut Endpoint> {
        self.objects.get_mut(key)?.endpoint.as_deref_mut()
    }

    /// The media server may say only that the transport is up or down. Clients expect the steps that
    /// lead there, in this order.
    fn transport_changed(&mut self, key: ObjectKey, connected: bool) {
        let object = self.objects.get(key);
        if object.is_some_and(|object| object.class.is(&elements::RTP_ENDPOINT)) {
            // It was connected when it had negotiated. What is told here is that its peer was heard.
            return self.set_media_connected(key, connected);
        }
        if connected {
            let ice = self
                .endpoint_state(key)
                .map(|e| e.ice.get(&COMPONENT).copied());
            if !matches!(ice, Some(Some(IceState::Connected | IceState::Ready))) {
                self.set_ice(key, COMPONENT, IceState::Connected);
            }
            self.set_dtls(key, DtlsState::Connected);
            self.set_connected(key, true);
            self.set_ice(key, COMPONENT, IceState::Ready);
            self.note_activity(key);
        } else {
            let endpoint = self.endpoint_state(key);
            let ice = endpoint.and_then(|it| it.ice.get(&COMPONENT).copied());
            // What failed is told to have failed, and is not overruled by what came of it.
            if ice != Some(IceState::Failed) {
                self.set_ice(key, COMPONENT, IceState::Disconnected);
            }
            self.set_connected(key, false);
            self.set_media_connected(key, false);
        }
    }

    pub(super) fn set_ice(&mut self, key: ObjectKey, component: u8, state: IceState) {
        let Some(endpoint) = self.endpoint_state(key) else {
            return;
        };
        let former = endpoint.ice.get(&component).copied();
        // Candidates may still be found, or be found to be all, when a pair works already.
        let late = matches!(state, IceState::Gathering | IceState::Connecting)
            && matches!(former, Some(IceState::Connected | IceState::Ready));
        if former == Some(state) || late {
            return;
        }
        endpoint.ice.insert(component, state);
        let own = json!({ "streamId": 1, "componentId": component, "state": ice_name(state) });
        self.emit(key, &events::ICE_COMPONENT_STATE_CHANGED, own);
    }

    fn set_dtls(&mut self, key: ObjectKey, state: DtlsState) {
        let Some(endpoint) = self.endpoint_state(key) else {
            return;
        };
        if endpoint.dtls.replace(state) != Some(state) {
            let own = dtls_members(state);
            self.emit(key, &events::DTLS_CONNECTION_STATE_CHANGE, own);
        }
    }

    pub(super) fn set_connected(&mut self, key: ObjectKey, connected: bool) {
        let Some(endpoint) = self.endpoint_state(key) else {
            return;
        };
        if std::mem::replace(&mut endpoint.connected, connected) != connected {
            let own = change(connected);
            self.emit(key, &events::CONNECTION_STATE_CHANGED, own);
        }
    }

    /// Media is connected when some flows over a connected transport: it comes, or the peer reports on it.
    pub(super) fn note_activity(&mut self, key: ObjectKey) {
        let object = self.objects.get(key);
        let is_active = object.is_some_and(|object| {
            let connected = object.endpoint.as_ref().is_some_and(|it| it.connected);
            let is_heard_of_otherwise = object.class.is(&elements::RTP_ENDPOINT);
            connected && object.flows.any() && !is_heard_of_otherwise
        });
        if is_active {
            self.set_media_connected(key, true);
        }
    }

    fn set_media_connected(&mut self, key: ObjectKey, connected: bool) {
        let Some(endpoint) = self.endpoint_state(key) else {
            return;
        };
        if std::mem::replace(&mut endpoint.media_connected, connected) != connected {
            let own = change(connected);
            self.emit(key, &events::MEDIA_STATE_CHANGED, own);
        }
    }
}

fn change(connected: bool) -> serde_json::Value {
    if connected {
        json!({ "oldState": "DISCONNECTED", "newState": "CONNECTED" })
    } else {
        json!({ "oldState": "CONNECTED", "newState": "DISCONNECTED" })
    }
}
