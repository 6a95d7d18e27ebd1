// A room as one user sees it: who is there, what they publish, and the way back after an outage.

import { Emitter } from './emitter.js';
import { delay, ErrorCode, isConnectionLost, quiet, RoomError } from './errors.js';
import { Participant } from './participant.js';
import { Stream } from './stream.js';

const UPDATE_SPEAKER_INTERVAL_MS = 1500;
const THRESHOLD_SPEAKER_DB = -50;

/** The server may hold our own name until the grace period of the lost session is over. */
const NAME_RETRY_INTERVAL_MS = 2_000;
const NAME_RETRIES_MAX = 10;

/** Notifications kept while a join is under way. */
const QUEUED_NOTIFICATIONS_MAX = 1_000;

export class Room extends Emitter {
  /** `new`, `joining`, `connected`, `reconnecting` or `left`. */
  state = 'new';
  #kurento;
  // Without a prototype: somebody may be called "constructor".
  #participants = Object.create(null);
  #streams = Object.create(null);
  #localParticipant;
  #connecting = null;
  #joining = false;
  #queued = [];
  #recoveryWaiters = [];
  #speakers = [];
  #speakerTimer = null;
  /** Whether the server knows `setSubscription`; null before it was asked. */
  takesPreferences = null;

  constructor(kurento, options) {
    super();
    this.#kurento = kurento;
    this.name = options.room;
    this.user = options.user;
    this.options = options;
    this.thresholdSpeaker = options.thresholdSpeaker ?? THRESHOLD_SPEAKER_DB;
    this.#localParticipant = new Participant(kurento, true, this, { id: options.user });
    this.#participants[options.user] = this.#localParticipant;
  }

  get connected() {
    return this.state === 'connected' || this.state === 'reconnecting';
  }

  /** Whether the user joins with data channels. */
  get dataChannels() {
    const streams = Object.values(this.#localParticipant.getStreams());
    return Boolean(this.options.dataChannels) || streams.some((stream) => stream.isDataChannelEnabled());
  }

  getLocalParticipant() {
    return this.#localParticipant;
  }

  /** Everybody, the local participant included, by name. */
  getParticipants() {
    return this.#participants;
  }

  /** All streams, own ones included, by global id. */
  getStreams() {
    return this.#streams;
  }

  /** Joins. Resolves after `room-connected`, with its payload; rejects after `error-room`. */
  connect() {
    if (this.connected) return Promise.resolve(this.#present());
    this.#connecting ??= quiet(this.#connect().finally(() => {
      this.#connecting = null;
    }));
    return this.#connecting;
  }

  subscribe(stream) {
    return stream.subscribe();
  }

  /** Stops publishing the own stream, or receiving another's; false if it belongs to nobody. */
  disconnect(stream) {
    const participant = stream.getParticipant();
    if (!participant) return false;
    return participant === this.#localParticipant ? stream.unpublish() : stream.unsubscribe();
  }

  /** Leaves and closes the connection; `forced`: without telling the server. */
  leave(forced, rpcClient = this.#kurento.getRpcClient()) {
    // Sent before anything else: a page that is being closed runs no later code.
    const told = !forced && this.state === 'connected' ? this.#kurento.request('leaveRoom') : Promise.resolve();
    this.#end(new RoomError(ErrorCode.CONNECTION_LOST, 'The room was left'));
    return told.catch(() => {}).then(() => rpcClient.close());
  }

  addParticipantSpeaking(id) {
    this.#speakers = [...this.#speakers.filter((speaker) => speaker !== id), id];
    this.#speakerTimer ??= setInterval(() => {
      this.emitEvent('update-main-speaker', [{ participantId: this.#speakers.at(-1) }]);
    }, this.options.updateSpeakerInterval ?? UPDATE_SPEAKER_INTERVAL_MS);
  }

  removeParticipantSpeaking(id) {
    this.#speakers = this.#speakers.filter((speaker) => speaker !== id);
    if (this.#speakers.length > 0) return;
    clearInterval(this.#speakerTimer);
    this.#speakerTimer = null;
  }

  /** Resolves when the room is usable again after an outage; rejects when it is over. */
  recovered() {
    if (this.state === 'connected') return Promise.resolve();
    if (this.state !== 'reconnecting') {
      return Promise.reject(new RoomError(ErrorCode.CONNECTION_LOST, 'Not in the room'));
    }
    return new Promise((resolve, reject) => this.#recoveryWaiters.push({ resolve, reject }));
  }

  // Notifications of the server, with their parameters as they came.

  onParticipantJoined(params) {
    if (this.#postpone('onParticipantJoined', params) || this.#participants[params.id]) return;
    this.emitEvent('participant-joined', [{ participant: this.#addParticipant(params.id) }]);
  }

  onParticipantPublished(params) {
    if (this.#postpone('onParticipantPublished', params) || params.id === this.user) return;
    if (!this.#participants[params.id]) this.onParticipantJoined(params);
    const participant = this.#participants[params.id];
    const added = [];
    for (const { id } of params.streams ?? [{ id: 'webcam' }]) {
      const known = participant.getStreams()[id];
      if (!known) added.push(this.#addStream(participant, id));
      // Told twice of the same publication, unless the first one broke unnoticed.
      else if (known.isBroken()) known.renew();
    }
    if (added.length === 0) return;
    this.emitEvent('participant-published', [{ participant }]);
    for (const stream of added) {
      this.#subscribeIfWanted(stream);
      this.emitEvent('stream-added', [{ stream }]);
    }
  }

  onParticipantUnpublished(params) {
    if (this.#postpone('onParticipantUnpublished', params)) return;
    const participant = this.#remote(params.name);
    if (participant) this.#unpublished(participant);
  }

  onParticipantLeft(params) {
    if (this.#postpone('onParticipantLeft', params)) return;
    const participant = this.#remote(params.name);
    if (participant) this.#removeParticipant(participant);
  }

  onParticipantEvicted() {
    if (this.#postpone('onParticipantEvicted', {})) return;
    this.state = 'left';
    this.emitEvent('participant-evicted', [{ localParticipant: this.#localParticipant }]);
    this.#end(new RoomError(ErrorCode.CONNECTION_LOST, 'Evicted from the room'));
  }

  onRoomClosed(params) {
    if (this.#postpone('onRoomClosed', params)) return;
    this.state = 'left';
    this.emitEvent('room-closed', [{ room: params.room }]);
    this.#end(new RoomError(ErrorCode.CONNECTION_LOST, 'The room was closed'));
  }

  onNewMessage({ room, user, message }) {
    this.emitEvent('newMessage', [{ room, user, message }]);
  }

  onCustomNotification(params) {
    this.emitEvent('custom-message-received', [{ params }]);
  }

  onMediaError(params) {
    this.emitEvent('error-media', [{ error: params.error }]);
  }

  onVideoDelivery({ sender, ...delivery }) {
    this.#streams[sender]?.onVideoDelivery(delivery);
  }

  onLayersWanted({ layers }) {
    for (const stream of Object.values(this.#localParticipant.getStreams())) stream.onLayersWanted(layers);
    this.emitEvent('layers-wanted', [{ layers }]);
  }

  onActiveSpeakers({ dominant, speaking }) {
    const known = (name) => this.#participants[name] ?? null;
    const payload = { dominant: known(dominant), speaking: speaking.map(known).filter(Boolean) };
    this.emitEvent('active-speakers', [payload]);
  }

  recvIceCandidate({ endpointName, candidate, sdpMid, sdpMLineIndex }) {
    const participant = this.#participants[endpointName];
    if (!participant) return;
    for (const stream of Object.values(participant.getStreams())) {
      stream.recvIceCandidate({ candidate, sdpMid, sdpMLineIndex });
    }
  }

  // The connection's life.

  onReconnecting() {
    if (this.state !== 'connected') return;
    this.state = 'reconnecting';
    this.emitEvent('reconnecting', [{ room: this.name }]);
  }

  onReconnected(resumed) {
    if (this.state !== 'reconnecting' || this.#joining) return;
    if (resumed) this.#recover(true);
    else quiet(this.#rejoin());
  }

  /** No connection any more, and no attempt to get one. */
  onLostConnection() {
    if (!this.connected && this.state !== 'joining') return;
    this.state = 'left';
    this.emitEvent('lost-connection', [{ room: this.name }]);
    this.#end(new RoomError(ErrorCode.CONNECTION_LOST, 'The connection was lost'));
  }

  async #connect() {
    this.state = 'joining';
    let peers;
    try {
      peers = await this.#join();
    } catch (error) {
      if (this.state === 'joining') this.state = 'new';
      this.#queued = [];
      this.emitEvent('error-room', [{ error }]);
      throw error;
    }
    this.state = 'connected';
    const participants = peers.map(({ id }) => this.#addParticipant(id));
    const streams = peers.flatMap(({ id, streams: published = [] }) => published.map((stream) => {
      return this.#addStream(this.#participants[id], stream.id);
    }));
    for (const stream of streams) this.#subscribeIfWanted(stream);
    const payload = { participants, streams };
    this.emitEvent('room-connected', [payload]);
    this.#replayQueued();
    return payload;
  }

  /** Joins until it succeeds or the server refuses; resolves with the peers in the room. */
  async #join() {
    this.#joining = true;
    let lost = this.state === 'reconnecting';
    let retries = 0;
    try {
      for (;;) {
        try {
          const params = { user: this.user, room: this.name };
          if (this.dataChannels) params.dataChannels = true;
          if (this.options.adaptive) params.mediaEvents = true;
          const result = await this.#kurento.request('joinRoom', params);
          this.#throwIfLeft();
          // It may be another server by now.
          this.takesPreferences = null;
          return (result.value ?? []).filter(({ id }) => id !== this.user);
        } catch (error) {
          this.#throwIfLeft();
          if (isConnectionLost(error)) {
            lost = true;
            await this.#kurento.whenOpen();
          } else if (error.code === ErrorCode.EXISTING_USER && lost && retries++ < NAME_RETRIES_MAX) {
            await delay(NAME_RETRY_INTERVAL_MS);
          } else {
            throw error;
          }
          this.#throwIfLeft();
        }
      }
    } finally {
      this.#joining = false;
    }
  }

  /** The session is gone: joins again and brings every stream back. */
  async #rejoin() {
    let peers;
    try {
      peers = await this.#join();
    } catch (error) {
      if (this.state !== 'reconnecting') return;
      this.emitEvent('error-room', [{ error }]);
      this.onLostConnection();
      return;
    }
    const here = new Map(peers.map((peer) => [peer.id, peer]));
    for (const participant of this.#remotes()) {
      const peer = here.get(participant.getID());
      if (!peer) this.#removeParticipant(participant);
      else if (!peer.streams?.length) this.#unpublished(participant);
    }
    const kept = Object.values(this.#streams);
    this.#recover(false);
    for (const stream of kept) stream.renew();
    for (const peer of peers) {
      this.onParticipantJoined(peer);
      if (peer.streams?.length) this.onParticipantPublished(peer);
    }
    this.#replayQueued();
  }

  #recover(resumed) {
    this.state = 'connected';
    this.emitEvent('reconnected', [{ room: this.name, resumed }]);
    for (const waiter of this.#recoveryWaiters.splice(0)) waiter.resolve();
  }

  /** Nothing of the room lives on; the object can `connect()` again. */
  #end(error) {
    this.state = 'left';
    this.#queued = [];
    for (const id of [...this.#speakers]) this.removeParticipantSpeaking(id);
    for (const participant of Object.values(this.#participants)) participant.dispose();
    for (const participant of this.#remotes()) delete this.#participants[participant.getID()];
    for (const waiter of this.#recoveryWaiters.splice(0)) waiter.reject(error);
  }

  #present() {
    const streams = Object.values(this.#streams).filter((stream) => stream.getParticipant() !== this.#localParticipant);
    return { participants: this.#remotes(), streams };
  }

  #throwIfLeft() {
    if (this.state === 'left') throw new RoomError(ErrorCode.CONNECTION_LOST, 'The room was left');
  }

  /** Peers act while our join is under way; what they do is applied to the list it brings. */
  #postpone(handler, params) {
    if (!this.#joining && this.state !== 'joining') return false;
    if (this.#queued.length < QUEUED_NOTIFICATIONS_MAX) this.#queued.push([handler, params]);
    return true;
  }

  #replayQueued() {
    for (const [handler, params] of this.#queued.splice(0)) this[handler](params);
  }

  #remote(name) {
    const participant = this.#participants[name];
    if (participant && participant !== this.#localParticipant) return participant;
    console.warn(`notification about '${name}', who is not known in the room`);
    return null;
  }

  #remotes() {
    return Object.values(this.#participants).filter((participant) => participant !== this.#localParticipant);
  }

  #addParticipant(id) {
    const participant = new Participant(this.#kurento, false, this, { id });
    this.#participants[id] = participant;
    return participant;
  }

  #addStream(participant, id) {
    const stream = new Stream(this.#kurento, false, this, { id, participant, recvVideo: true, recvAudio: true });
    participant.addStream(stream);
    return stream;
  }

  #unpublished(participant) {
    const streams = Object.values(participant.getStreams());
    if (streams.length === 0) return;
    for (const stream of streams) participant.removeStream(stream);
    this.emitEvent('participant-unpublished', [{ participant }]);
    for (const stream of streams) this.emitEvent('stream-unpublished', [{ stream }]);
    if (this.#legacyUnpublishAsLeft()) {
      this.emitEvent('participant-left', [{ participant }]);
      for (const stream of streams) this.emitEvent('stream-removed', [{ stream }]);
    }
    for (const stream of streams) stream.dispose();
  }

  #removeParticipant(participant) {
    const streams = Object.values(participant.getStreams());
    delete this.#participants[participant.getID()];
    this.emitEvent('participant-left', [{ participant }]);
    for (const stream of streams) this.emitEvent('stream-removed', [{ stream }]);
    participant.dispose();
  }

  #subscribeIfWanted(stream) {
    if (this.options.subscribeToStreams ?? true) stream.subscribe();
  }

  #legacyUnpublishAsLeft() {
    return this.options.legacyUnpublishAsLeft ?? this.#kurento.options.legacyUnpublishAsLeft ?? true;
  }
}
