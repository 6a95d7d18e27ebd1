// Audio and video of one participant: the own one is captured and published, another's is received.

import { capture, captureTrack } from './capture.js';
import { Emitter } from './emitter.js';
import { ErrorCode, isConnectionLost, quiet, RoomError } from './errors.js';
import { Peer } from './peer.js';
import { SpeakingDetector } from './speaking.js';
import { StreamView } from './view.js';
import { Viewing } from './viewing.js';

/** Waits before a failed peer connection is made anew, one per attempt. */
const RESTART_DELAYS_MS = [500, 2_000, 5_000];
/** A connection that lived this long has earned fresh attempts. */
const STABLE_AFTER_MS = 30_000;
/** Candidates kept while there is no peer connection yet. */
const EARLY_CANDIDATES_MAX = 64;

export class Stream extends Emitter {
  #kurento;
  #local;
  #options;
  #participant;
  #id;
  #localMedia = null;
  /** Tracks this object captured, and hence stops. */
  #captured = new Set();
  #peer = null;
  #view;
  #detector = null;
  #earlyCandidates = [];
  #loopback = false;
  #mirrored = false;
  #channels = 0;
  /** The application wants it published or subscribed; kept across outages. */
  #wanted = false;
  #disposed = false;
  #negotiation = null;
  #restarts = 0;
  #restartTimer = null;
  #connectedAt = null;
  #failedPeer = null;
  #viewing = null;
  /** What the application wants of a received stream. */
  #preferences = {};
  /** The server has a subscription. */
  #received = false;
  /** What of all wishes the server knows, as text. */
  #toldServer = '{}';
  #telling = null;
  #delivery = null;

  constructor(kurento, local, room, options = {}) {
    super();
    this.#kurento = kurento;
    this.#local = local;
    this.#options = options;
    this.#id = options.id ?? 'webcam';
    this.#participant = options.participant;
    this.room = room;
    if (!local && room?.options?.adaptive) this.#viewing = Viewing.create(() => this.#adapt());
    this.#view = new StreamView(this, {
      onshown: (video) => this.observeVideo(video),
      ongone: (video) => this.unobserveVideo(video),
    });
  }

  get isLocal() {
    return this.#local;
  }

  getID() {
    return this.#id;
  }

  getGlobalID() {
    return this.#participant ? `${this.#participant.getID()}_${this.#id}` : `${this.#id}_webcam`;
  }

  getParticipant() {
    return this.#participant;
  }

  /** What is to be shown: the received media, or the own before it has gone through the server. */
  getWrStream() {
    return this.#peer?.remoteStream ?? this.#localMedia;
  }

  /** What is captured, also in loopback. */
  getLocalMediaStream() {
    return this.#localMedia;
  }

  getWebRtcPeer() {
    return this.#peer;
  }

  getRecvVideo() {
    return this.#options.recvVideo;
  }

  getRecvAudio() {
    return this.#options.recvAudio;
  }

  /** Statistics of the peer connection, or null without one. */
  async getStats() {
    return this.#peer ? this.#peer.getStats() : null;
  }

  // Own media.

  /** Asks for microphone and camera; `access-accepted` or `access-denied` follows. */
  init() {
    this.#register();
    return quiet(this.#capture());
  }

  setAudioEnabled(on) {
    this.#setEnabled('audio', on);
  }

  setVideoEnabled(on) {
    this.#setEnabled('video', on);
  }

  /**
   * Sends another track of that kind, or none. Nothing is negotiated unless the kind is not being
   * sent at all; then the stream is published again. The track of before is stopped if `init` or
   * `startTrack` captured it.
   */
  async replaceTrack(kind, track) {
    const former = this.#localMedia?.getTracks().find((candidate) => candidate.kind === kind);
    if (former === track) return;
    const published = this.#peer !== null;
    const replaced = published ? await this.#peer.replaceTrack(kind, track) : true;
    this.#localMedia ??= new MediaStream();
    if (former) {
      this.#localMedia.removeTrack(former);
      this.#release(former);
    }
    if (track) this.#localMedia.addTrack(track);
    this.#view.play(this.getWrStream());
    if (!replaced && track) {
      await this.#unpublish(true);
      await this.publish();
    }
  }

  /** Captures a track and sends it; `constraints` choose the device. */
  async startTrack(kind, constraints) {
    const track = await captureTrack(kind, constraints);
    this.#own(track);
    await this.replaceTrack(kind, track);
    return track;
  }

  /** Sends nothing of that kind and lets go of the device: the camera's light goes out. */
  stopTrack(kind) {
    return this.replaceTrack(kind, null);
  }

  // Publishing and subscribing.

  /** Requests that the server's copy of the own stream comes back, and shows that. */
  subscribeToMyRemote() {
    this.#loopback = true;
  }

  displayMyRemote() {
    return this.#loopback;
  }

  mirrorLocalStream(mediaStream) {
    this.#loopback = true;
    this.#mirrored = true;
    if (mediaStream) this.#localMedia = mediaStream;
  }

  isLocalMirrored() {
    return this.#mirrored;
  }

  /** Resolves when published; `stream-published` or `error-publish` is emitted too. */
  publish() {
    return this.#negotiate('error-publish', () => this.#publishOnce());
  }

  /** Resolves when received; `stream-subscribed` or `error-subscribe` is emitted too. */
  subscribe() {
    return this.#negotiate('error-subscribe', () => this.#subscribeOnce());
  }

  /** Stops publishing and lets go of the devices, unless `keepMedia`. */
  unpublish({ keepMedia = false } = {}) {
    this.#wanted = false;
    const answer = this.#unpublish(keepMedia);
    answer.then(() => this.room.emitEvent('stream-unpublished', [{ stream: this }]), () => {});
    return quiet(answer);
  }

  /** Stops receiving; `subscribe` may follow. */
  unsubscribe() {
    this.#wanted = false;
    this.#earlyCandidates = [];
    this.#closePeer();
    return quiet(this.#kurento.request('unsubscribeFromVideo', { sender: this.getGlobalID() }));
  }

  /** Negotiates again after the server has forgotten this stream. */
  renew() {
    if (!this.#wanted || this.#negotiation) return;
    this.#closePeer();
    if (this.#local) this.publish();
    else this.subscribe();
  }

  /** Wanted, but neither connected nor about to be. */
  isBroken() {
    if (!this.#wanted || this.#negotiation) return false;
    const state = this.#peer?.peerConnection.connectionState;
    return !this.#peer || state === 'failed' || state === 'closed';
  }

  /** Sends the offer; completes a publication whose peer connection exists. */
  async publishVideoCallback(error, sdpOffer, peer = this.#peer) {
    if (error) throw error;
    const { sdpAnswer } = await this.#kurento.request('publishVideo', { sdpOffer, doLoopback: this.#loopback });
    this.#throwIfReplaced(peer);
    this.room.emitEvent('stream-published', [{ stream: this }]);
    await this.processSdpAnswer(sdpAnswer);
  }

  /** Sends the offer; completes a subscription whose peer connection exists. */
  async startVideoCallback(error, sdpOffer, peer = this.#peer) {
    if (error) throw error;
    const { sdpAnswer } = await this.#kurento.request('receiveVideoFrom', { sender: this.getGlobalID(), sdpOffer });
    this.#throwIfReplaced(peer);
    this.#received = true;
    this.#adapt();
    await this.processSdpAnswer(sdpAnswer);
  }

  async processSdpAnswer(sdpAnswer) {
    const peer = this.#peer;
    await peer.setAnswer(sdpAnswer);
    this.#throwIfReplaced(peer);
    if (!peer.remoteStream) return;
    this.#view.play(peer.remoteStream);
    this.#detectSpeaking();
    this.room.emitEvent('stream-subscribed', [{ stream: this }]);
  }

  recvIceCandidate(candidate) {
    if (this.#peer) this.#peer.addIceCandidate(candidate);
    else if (this.#earlyCandidates.length < EARLY_CANDIDATES_MAX) this.#earlyCandidates.push(candidate);
  }

  // What is received of it. Servers other than Tertulia send everything.

  /**
   * Says what to send, in place of what was said before: `maxWidth`, `maxHeight`, `maxFrameRate`, `priority` (`low`,
   * `normal`, `high`), `pauseAudio`, `pauseVideo`, `spatialLayer`, `temporalLayer`. Whatever is absent is not limited.
   * Resolves when the server knows; before the subscription is made, at once.
   */
  setPreferences(preferences = {}) {
    this.#preferences = { ...preferences };
    return this.#adapt();
  }

  getPreferences() {
    return { ...this.#preferences };
  }

  /** `{spatialLayer, temporalLayer, spatialLayers, height}` or `{paused}`; null before the server has said. */
  getVideoDelivery() {
    return this.#delivery;
  }

  /** In an adaptive room: this element shows the stream too. Those of `playOnlyVideo` are known. */
  observeVideo(video) {
    this.#viewing?.observe(video);
  }

  unobserveVideo(video) {
    this.#viewing?.unobserve(video);
  }

  /** The server says what becomes of the video. */
  onVideoDelivery(delivery) {
    this.#delivery = delivery;
    this.room.emitEvent('video-delivery', [{ stream: this, delivery }]);
  }

  /** The server says which layers of the own video anybody watches. */
  onLayersWanted(layers) {
    this.#peer?.setLayersWanted(layers);
  }

  // Data.

  isDataChannelEnabled() {
    return Boolean(this.#options.data);
  }

  isDataChannelOpened() {
    return this.#peer?.dataChannel?.readyState === 'open';
  }

  sendData(data) {
    if (!this.#peer) throw new Error('WebRTC peer has not been created yet');
    this.#peer.send(data);
  }

  // Showing.

  playOnlyVideo(parent, thumbnailId) {
    return this.#view.playOnlyVideo(parent, thumbnailId);
  }

  playThumbnail(parentId) {
    return this.#view.playThumbnail(parentId);
  }

  dispose() {
    this.#disposed = true;
    this.#wanted = false;
    this.#closePeer();
    this.#releaseAll();
    this.#view.dispose();
    this.#viewing?.dispose();
  }

  /** Candidates are given to the streams the participant knows. */
  #register() {
    this.#disposed = false;
    if (this.#participant.getStreams()[this.#id] !== this) this.#participant.addStream(this);
  }

  async #capture() {
    try {
      const { mediaStream } = this.#options;
      const media = mediaStream ?? await capture(this.#options);
      if (!mediaStream) for (const track of media.getTracks()) this.#own(track);
      this.#localMedia = media;
      if (this.#disposed) {
        this.#releaseAll();
        throw new DOMException('The stream was disposed', 'AbortError');
      }
      this.#view.play(media);
      this.emitEvent('access-accepted');
      return media;
    } catch (error) {
      if (!this.#disposed) this.emitEvent('access-denied', [{ error }]);
      throw error;
    }
  }

  #own(track) {
    this.#captured.add(track);
    track.addEventListener('ended', () => this.emitEvent('track-ended', [{ stream: this, track }]));
  }

  #release(track) {
    if (this.#captured.delete(track)) track.stop();
  }

  #releaseAll() {
    for (const track of [...this.#captured]) this.#release(track);
    this.#localMedia = null;
  }

  #setEnabled(kind, on) {
    const media = this.#local ? this.#localMedia : this.#peer?.remoteStream;
    for (const track of media?.getTracks() ?? []) {
      if (track.kind === kind) track.enabled = Boolean(on);
    }
  }

  /** Runs one negotiation at a time, again after each outage, until it succeeds or is refused. */
  #negotiate(errorEvent, attempt) {
    this.#wanted = true;
    if (this.#negotiation) return this.#negotiation;
    if (this.#peer) return Promise.resolve();
    this.#negotiation = quiet(this.#attempts(errorEvent, attempt).finally(() => {
      this.#negotiation = null;
    }));
    return this.#negotiation;
  }

  async #attempts(errorEvent, attempt) {
    for (;;) {
      try {
        await attempt();
        return;
      } catch (error) {
        this.#closePeer();
        if (!this.#wanted) throw new Aborted();
        if (isConnectionLost(error)) {
          await this.room.recovered();
        } else if (!(error instanceof Aborted)) {
          this.#wanted = false;
          this.room.emitEvent(errorEvent, [{ stream: this, error }]);
          throw error;
        }
        if (!this.#wanted) throw new Aborted();
      }
    }
  }

  async #publishOnce() {
    this.#register();
    if (!this.#localMedia) {
      await this.init();
      if (!this.#wanted) this.#releaseAll();
    }
    if (!this.#wanted) throw new Aborted();
    const { audio, video, data, screen } = this.#options;
    const { simulcast = Boolean(this.room.options.adaptive) && !screen } = this.#options;
    const has = (kind) => this.#localMedia.getTracks().some((track) => track.kind === kind);
    const peer = this.#openPeer({
      direction: this.#loopback ? 'sendrecv' : 'sendonly',
      // A kind asked for by name is negotiated even if its device is off, so that it can come later.
      audio: has('audio') || audio === true,
      video: has('video') || Boolean(video),
      localStream: this.#localMedia,
      simulcast,
      dataChannel: data ? `${this.getGlobalID()}_${this.#channels++}` : null,
    });
    const sdpOffer = await peer.createOffer();
    this.#throwIfReplaced(peer);
    await this.#orUndo(this.publishVideoCallback(null, sdpOffer, peer), 'unpublishVideo');
  }

  async #subscribeOnce() {
    const { recvAudio = true, recvVideo = true } = this.#options;
    const peer = this.#openPeer({
      direction: 'recvonly',
      audio: recvAudio,
      video: recvVideo,
      dataChannel: this.room.dataChannels ? `${this.getGlobalID()}_${this.#channels++}` : null,
    });
    const sdpOffer = await peer.createOffer();
    this.#throwIfReplaced(peer);
    await this.#orUndo(this.startVideoCallback(null, sdpOffer, peer), 'unsubscribeFromVideo', {
      sender: this.getGlobalID(),
    });
  }

  /** An answer the browser refuses must not leave the server with a half-made endpoint. */
  async #orUndo(completion, method, params) {
    try {
      await completion;
    } catch (error) {
      if (!(error instanceof RoomError) && !(error instanceof Aborted)) this.#kurento.request(method, params).catch(() => {});
      throw error;
    }
  }

  #openPeer(options) {
    this.#closePeer();
    const peer = new Peer({
      id: this.getGlobalID(),
      iceServers: this.#options.iceServers ?? this.room.options.iceServers ?? this.#kurento.options.iceServers,
      codec: this.#options.codec,
      ...options,
      oncandidate: (candidate) => this.#participant.sendIceCandidate(candidate),
      ontrack: () => this.#detectSpeaking(),
      onstate: (state, failed) => this.#stateChanged(peer, state, failed),
      onmessage: (data, label) => this.room.emitEvent('data-channel-message', [{ stream: this, data, label }]),
    });
    this.#peer = peer;
    for (const candidate of this.#earlyCandidates.splice(0)) peer.addIceCandidate(candidate);
    return peer;
  }

  #closePeer() {
    clearTimeout(this.#restartTimer);
    this.#detector?.stop();
    this.#detector = null;
    this.#peer?.dispose();
    this.#peer = null;
    this.#connectedAt = null;
    this.#received = false;
    this.#toldServer = '{}';
    this.#delivery = null;
  }

  #throwIfReplaced(peer) {
    if (peer !== this.#peer) throw new Aborted();
  }

  #stateChanged(peer, state, failed) {
    if (peer !== this.#peer) return;
    // The browser reports a failure of ICE twice: also as one of the connection.
    if (failed && this.#failedPeer === peer) return;
    this.#failedPeer = failed ? peer : null;
    this.room.emitEvent('ice-state-changed', [{ stream: this, state: failed ? 'failed' : state }]);
    if (state === 'connected' || state === 'completed') this.#connectedAt ??= Date.now();
    if (!failed || peer !== this.#peer) return;
    if (this.#connectedAt !== null && Date.now() - this.#connectedAt > STABLE_AFTER_MS) this.#restarts = 0;
    this.#connectedAt = null;
    const wait = RESTART_DELAYS_MS[this.#restarts];
    if (wait === undefined) {
      const error = new RoomError(ErrorCode.CONNECTION_LOST, 'The media connection failed repeatedly');
      // The application may try again whenever it likes.
      quiet(this.#withdraw());
      this.room.emitEvent(this.#local ? 'error-publish' : 'error-subscribe', [{ stream: this, error }]);
      return;
    }
    this.#restarts += 1;
    this.#restartTimer = setTimeout(() => quiet(this.#restart()), wait);
  }

  async #restart() {
    if (!this.#wanted || this.#negotiation) return;
    // Refused if the server has noticed the failure itself.
    await this.#withdraw().catch(() => {});
    if (!this.#wanted || this.#peer || this.room.state !== 'connected') return;
    await (this.#local ? this.publish() : this.subscribe());
  }

  /** Takes back at the server what was published or subscribed; the application still wants it. */
  #withdraw() {
    if (this.#local) return this.#unpublish(true);
    this.#closePeer();
    return this.#kurento.request('unsubscribeFromVideo', { sender: this.getGlobalID() });
  }

  #unpublish(keepMedia) {
    this.#closePeer();
    if (!keepMedia) {
      this.#releaseAll();
      this.#view.play(null);
    }
    return this.#kurento.request('unpublishVideo');
  }

  #adapt() {
    if (!this.#received) return Promise.resolve();
    this.#telling ??= quiet(this.#tell().finally(() => {
      this.#telling = null;
    }));
    return this.#telling;
  }

  /** Tells the server what is wanted until it knows; one request at a time. */
  async #tell() {
    for (;;) {
      const peer = this.#peer;
      const wanted = this.#wishes();
      const text = JSON.stringify(wanted);
      if (!this.#received || text === this.#toldServer || this.room.takesPreferences === false) return;
      try {
        await this.#kurento.request('setSubscription', { sender: this.getGlobalID(), ...wanted });
      } catch (error) {
        // The original server gives no answer to what it does not know.
        const isUnknown = error.code === ErrorCode.METHOD_NOT_FOUND || error.code === ErrorCode.TIMEOUT;
        if (isUnknown) this.room.takesPreferences ??= false;
        throw error;
      }
      this.room.takesPreferences = true;
      if (peer === this.#peer) this.#toldServer = text;
    }
  }

  /** The wishes of the application and of what is seen. */
  #wishes() {
    const seen = this.#viewing?.wanted ?? {};
    const wanted = { ...this.#preferences };
    if (seen.pauseVideo) wanted.pauseVideo = true;
    // Who chose a layer wants it at any size.
    if (seen.maxHeight && wanted.spatialLayer === undefined) {
      wanted.maxHeight = Math.min(wanted.maxHeight ?? Infinity, seen.maxHeight);
    }
    return wanted;
  }

  #detectSpeaking() {
    const media = this.#peer?.remoteStream;
    if (!media || this.#detector || media.getAudioTracks().length === 0) return;
    const participantId = this.getGlobalID();
    this.#detector = new SpeakingDetector(media, this.room.thresholdSpeaker, {
      onspeaking: () => {
        this.room.addParticipantSpeaking(participantId);
        this.room.emitEvent('stream-speaking', [{ participantId }]);
      },
      onstopped: () => {
        this.room.removeParticipantSpeaking(participantId);
        this.room.emitEvent('stream-stopped-speaking', [{ participantId }]);
      },
    });
  }
}

/** The peer connection of an attempt was closed, or replaced, by a later wish of the application. */
class Aborted extends Error {
  name = 'AbortError';

  constructor() {
    super('Stopped before it was done');
  }
}
