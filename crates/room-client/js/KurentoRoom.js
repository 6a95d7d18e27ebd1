// Room client for browsers, for a plain <script> tag. Made by build.mjs; do not edit.
// Globals: KurentoRoom, Room, Participant, Stream, jq.
(function (global) {
'use strict';

// Errors as applications see them: `code` and `message` of the room protocol.

/** Codes the client itself gives; all others come from the server. */
const ErrorCode = Object.freeze({
  /** The name is taken in this room. */
  EXISTING_USER: 104,
  /** The request was not answered in time. */
  TIMEOUT: 801,
  /** The answer cannot be used. */
  BAD_RESPONSE: 802,
  /** The connection, or the session it carried, was lost before the answer. */
  CONNECTION_LOST: 803,
  /** The server knows no such request. */
  METHOD_NOT_FOUND: -32601,
  /** The server no longer knows the session that `connect` asked for. */
  RECONNECTION: 40007,
});

class RoomError extends Error {
  constructor(code, message, data) {
    super(message);
    this.name = 'RoomError';
    this.code = code;
    if (data !== undefined) this.data = data;
  }

  toJSON() {
    return { code: this.code, message: this.message, data: this.data };
  }
}

function isConnectionLost(error) {
  return error instanceof RoomError && error.code === ErrorCode.CONNECTION_LOST;
}

/**
 * Marks a promise as looked after: every failure is also reported by an event, so an application
 * written with events must not see "unhandled rejection".
 */
function quiet(promise) {
  promise.catch(() => {});
  return promise;
}

function delay(milliseconds) {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

// Named events with any number of listeners, in the order they were added.

class Emitter {
  #listeners = new Map();

  addEventListener(name, listener) {
    this.#add(name, listener, listener);
    return this;
  }

  once(name, listener) {
    const wrapper = (...args) => {
      this.#keep(name, ({ call }) => call !== wrapper);
      listener(...args);
    };
    this.#add(name, listener, wrapper);
    return this;
  }

  removeEventListener(name, listener) {
    this.#keep(name, (entry) => entry.listener !== listener);
    return this;
  }

  /** Calls the listeners with the members of `args`; one that throws does not stop the others. */
  emitEvent(name, args = []) {
    for (const { call } of this.#listeners.get(name) ?? []) {
      try {
        call(...args);
      } catch (error) {
        console.error(`listener of '${name}' threw`, error);
      }
    }
  }

  #keep(name, wanted) {
    this.#listeners.set(name, (this.#listeners.get(name) ?? []).filter(wanted));
  }

  #add(name, listener, call) {
    // A fresh array, so that an emission under way keeps the listeners it started with.
    this.#listeners.set(name, [...(this.#listeners.get(name) ?? []), { listener, call }]);
  }
}

// JSON-RPC 2.0 over one WebSocket that is replaced when it breaks. The *session* outlives the
// socket: the id the server puts into its answers is presented by `connect` on the next socket.


/** A socket that has not opened by then is given up. */
const OPEN_TIMEOUT_MS = 10_000;
/** Too short: a restarting server is flooded. Too long: the user waits for a network that is back. */
const BACK_OFF_MAX_MS = 5_000;

/**
 * Milliseconds to wait before reconnection attempt `attempt` (from 0); `random` is in [0, 1).
 * The jitter keeps the clients of a restarted server from returning all at once.
 */
function backOff(attempt, random) {
  if (attempt === 0) return Math.round(500 * random);
  const base = Math.min(1000 * 2 ** (attempt - 1), BACK_OFF_MAX_MS);
  return Math.round(base * (0.5 + random / 2));
}

class RpcClient {
  #url;
  #options;
  #handlers;
  #state = 'connecting';
  #socket = null;
  #everOpened = false;
  #sessionId = null;
  #nextId = 0;
  /** Requests without an answer, by id, in the order they were made. */
  #pending = new Map();
  #heartbeatTimer = null;
  #openTimer = null;
  #retryTimer = null;
  #giveUpTimer = null;
  #attempt = 0;
  #openWaiters = [];

  /**
   * @param handlers `onopen()`, `onnotification(method, params)`, `onreconnecting()`,
   *   `onreconnected({resumed})`, `onclosed(error)`; `onclosed` comes once, and not after `close()`.
   */
  constructor(url, handlers, options = {}) {
    this.#url = url;
    this.#handlers = handlers;
    this.#options = {
      heartbeatMs: 3_000,
      requestTimeoutMs: 15_000,
      giveUpAfterMs: 120_000,
      ...options,
    };
    globalThis.addEventListener?.('online', this.#retryNow);
    this.#openSocket();
  }

  /** `connecting`, `open`, `reconnecting` or `closed`. */
  get state() {
    return this.#state;
  }

  /** Resolves with the result. Waits while there is no connection. */
  request(method, params) {
    if (this.#state === 'closed') {
      return Promise.reject(new RoomError(ErrorCode.CONNECTION_LOST, 'The connection is closed'));
    }
    return this.#enqueue(method, params, false);
  }

  /** Resolves as soon as requests reach the server; rejects when they never will again. */
  whenOpen() {
    if (this.#state === 'open') return Promise.resolve();
    if (this.#state === 'closed') {
      return Promise.reject(new RoomError(ErrorCode.CONNECTION_LOST, 'The connection is closed'));
    }
    return new Promise((resolve, reject) => this.#openWaiters.push({ resolve, reject }));
  }

  /** Replaces the socket; the session goes on. */
  reconnect() {
    if (this.#socket) this.#drop();
  }

  close() {
    if (this.#state !== 'closed') this.#end(new RoomError(ErrorCode.CONNECTION_LOST, 'The connection was closed'));
  }

  #enqueue(method, params, ownSocketOnly) {
    const id = this.#nextId++;
    const frame = JSON.stringify({ jsonrpc: '2.0', method, params, id });
    return new Promise((resolve, reject) => {
      const request = { id, method, frame, resolve, reject, timer: null, ownSocketOnly };
      this.#pending.set(id, request);
      if (this.#state === 'open' || ownSocketOnly) this.#transmit(request);
    });
  }

  #transmit(request) {
    clearTimeout(request.timer);
    request.timer = setTimeout(() => {
      this.#pending.delete(request.id);
      request.reject(new RoomError(ErrorCode.TIMEOUT, 'Request has timed out', { method: request.method }));
    }, this.#options.requestTimeoutMs);
    this.#socket.send(request.frame);
  }

  #openSocket() {
    let socket;
    try {
      socket = new (this.#options.WebSocket ?? globalThis.WebSocket)(this.#url);
    } catch (error) {
      // A malformed or forbidden address: the caller has not got its instance yet.
      queueMicrotask(() => this.#fail(new RoomError(ErrorCode.CONNECTION_LOST, error.message)));
      return;
    }
    this.#socket = socket;
    const current = (handle) => (event) => {
      if (socket === this.#socket) handle(event);
    };
    socket.onopen = current(() => this.#opened());
    socket.onmessage = current((event) => this.#received(event.data));
    socket.onclose = current(() => this.#lost());
    this.#openTimer = setTimeout(() => this.#drop(), OPEN_TIMEOUT_MS);
  }

  #opened() {
    clearTimeout(this.#openTimer);
    if (!this.#everOpened) {
      this.#everOpened = true;
      this.#startHeartbeat();
      this.#setOpen();
      this.#handlers.onopen();
      return;
    }
    if (this.#sessionId === null) {
      this.#startHeartbeat();
      this.#returned(false);
      return;
    }
    this.#resume();
  }

  async #resume() {
    const socket = this.#socket;
    const connected = this.#enqueue('connect', { sessionId: this.#sessionId }, true);
    // After `connect`: the first ping of a socket sets the interval of the session it carries.
    const pinged = this.#startHeartbeat();
    try {
      await connected;
    } catch (error) {
      if (socket !== this.#socket) return;
      if (error.code === ErrorCode.TIMEOUT) this.#drop();
      else this.#returned(false);
      return;
    }
    // Everything that was missed comes before the answer to the ping, answers included: what they
    // settle must not be asked again.
    await pinged;
    if (socket === this.#socket) this.#returned(true);
  }

  #returned(resumed) {
    clearTimeout(this.#giveUpTimer);
    this.#giveUpTimer = null;
    this.#attempt = 0;
    if (!resumed) {
      this.#sessionId = null;
      this.#rejectPending(
        new RoomError(ErrorCode.CONNECTION_LOST, 'The session was lost before the answer'),
        (request) => !request.ownSocketOnly,
      );
    }
    // Repeated byte for byte: the server knows by that what it has done already.
    this.#setOpen();
    this.#handlers.onreconnected({ resumed });
  }

  #setOpen() {
    this.#state = 'open';
    for (const request of [...this.#pending.values()]) {
      if (!request.ownSocketOnly) this.#transmit(request);
    }
    for (const waiter of this.#openWaiters.splice(0)) waiter.resolve();
  }

  #received(text) {
    let frame;
    try {
      frame = JSON.parse(text);
    } catch {
      console.warn('a frame that is not JSON was ignored');
      return;
    }
    if (frame === null || typeof frame !== 'object') return;
    if (typeof frame.method === 'string') {
      this.#handlers.onnotification(frame.method, frame.params ?? {});
      return;
    }
    const request = this.#pending.get(frame.id);
    if (!request) return;
    this.#pending.delete(frame.id);
    clearTimeout(request.timer);
    this.#sessionId = frame.result?.sessionId ?? frame.error?.sessionId ?? this.#sessionId;
    if (frame.error) {
      request.reject(new RoomError(frame.error.code, frame.error.message, frame.error.data));
    } else if (frame.result !== undefined) {
      request.resolve(frame.result);
    } else {
      request.reject(new RoomError(ErrorCode.BAD_RESPONSE, 'The answer has neither result nor error'));
    }
  }

  /** Resolves when the first ping is answered, or never will be. */
  #startHeartbeat() {
    clearInterval(this.#heartbeatTimer);
    const interval = this.#options.heartbeatMs;
    if (!interval) return Promise.resolve();
    const ping = (params) => {
      const socket = this.#socket;
      return this.#enqueue('ping', params, true).catch((error) => {
        if (error.code === ErrorCode.TIMEOUT && socket === this.#socket) this.#drop();
      });
    };
    this.#heartbeatTimer = setInterval(ping, interval);
    return ping({ interval });
  }

  /** Does not wait for the close handshake: a dead network would never finish it. */
  #drop() {
    const socket = this.#socket;
    this.#lost();
    socket.close();
  }

  #lost() {
    this.#socket = null;
    clearTimeout(this.#openTimer);
    clearInterval(this.#heartbeatTimer);
    const lost = new RoomError(ErrorCode.CONNECTION_LOST, 'The connection was lost');
    this.#rejectPending(lost, (request) => request.ownSocketOnly);
    for (const request of this.#pending.values()) clearTimeout(request.timer);
    if (!this.#everOpened) {
      this.#fail(new RoomError(ErrorCode.CONNECTION_LOST, `Cannot connect to ${this.#url}`));
      return;
    }
    const wasOpen = this.#state === 'open';
    this.#state = 'reconnecting';
    this.#giveUpTimer ??= setTimeout(() => {
      this.#fail(new RoomError(ErrorCode.CONNECTION_LOST, 'The server cannot be reached'));
    }, this.#options.giveUpAfterMs);
    this.#retryTimer = setTimeout(this.#retryNow, backOff(this.#attempt++, Math.random()));
    if (wasOpen) this.#handlers.onreconnecting();
  }

  #retryNow = () => {
    if (this.#retryTimer === null) return;
    clearTimeout(this.#retryTimer);
    this.#retryTimer = null;
    this.#openSocket();
  };

  #fail(error) {
    if (this.#state === 'closed') return;
    this.#end(error);
    this.#handlers.onclosed(error);
  }

  #end(error) {
    this.#state = 'closed';
    const socket = this.#socket;
    this.#socket = null;
    clearTimeout(this.#openTimer);
    clearTimeout(this.#retryTimer);
    clearTimeout(this.#giveUpTimer);
    clearInterval(this.#heartbeatTimer);
    this.#retryTimer = null;
    globalThis.removeEventListener?.('online', this.#retryNow);
    socket?.close();
    this.#rejectPending(error, () => true);
    for (const waiter of this.#openWaiters.splice(0)) waiter.reject(error);
  }

  #rejectPending(error, select) {
    for (const request of [...this.#pending.values()].filter(select)) {
      clearTimeout(request.timer);
      this.#pending.delete(request.id);
      request.reject(error);
    }
  }
}

// Getting at microphones, cameras and screens.

/** What an application that asks for nothing special gets. */
const DEFAULT_VIDEO = { width: { ideal: 1280 }, frameRate: { ideal: 15 } };

/** Resolves with a MediaStream for the options of a local Stream. */
async function capture({ audio = true, video = true, constraints, screen }) {
  if (screen) {
    return mediaDevices().getDisplayMedia({ video: typeof video === 'object' ? video : true, audio: audio === true });
  }
  const wanted = constraints ?? { audio, video: video === true ? DEFAULT_VIDEO : video };
  if (!wanted.audio && !wanted.video) return new MediaStream();
  return mediaDevices().getUserMedia(wanted);
}

/** Resolves with one track, for a kind that was off or comes from another device. */
async function captureTrack(kind, constraints) {
  const wanted = constraints ?? (kind === 'video' ? DEFAULT_VIDEO : true);
  const stream = await mediaDevices().getUserMedia({ [kind]: wanted });
  return stream.getTracks()[0];
}

function mediaDevices() {
  const devices = globalThis.navigator?.mediaDevices;
  if (devices) return devices;
  // Browsers hide the devices from pages that are not on HTTPS or localhost.
  throw new DOMException('Devices can be used only on a secure page', 'NotSupportedError');
}

// One RTCPeerConnection: offers, applies the answer, holds candidates back until it is applied.

/** A server sends a handful; more would be a fault. */
const QUEUED_CANDIDATES_MAX = 256;

/** Formats that carry or repair video but are not a picture codec. */
const HELPER_FORMATS = /^video\/(rtx|red|ulpfec|flexfec-03)$/i;

/** Low to high, as senders name them; a receiver gets one of the three. */
const SIMULCAST_ENCODINGS = [
  { rid: 'q', scaleResolutionDownBy: 4 },
  { rid: 'h', scaleResolutionDownBy: 2 },
  { rid: 'f', scaleResolutionDownBy: 1 },
];

class Peer {
  /** Collects the received tracks; it exists before they do. */
  remoteStream = null;
  dataChannel = null;
  #connection;
  #options;
  #answered = false;
  #candidates = [];
  #localStream;
  /** Whether anybody watches a layer, by its rid. */
  #layersWanted = new Map();
  /** The last change of encodings: one reads what the one before has written. */
  #encoding = Promise.resolve();

  /**
   * @param options
   *   `id`; `direction`: `sendonly`, `recvonly` or `sendrecv`; `audio`, `video`: which to negotiate;
   *   `localStream`; `iceServers`; `codec`: the only video codec to offer; `simulcast`;
   *   `dataChannel`: label of the channel to offer;
   *   handlers `oncandidate(candidate)`, `ontrack(track)`, `onstate(iceState, failed)`,
   *   `onmessage(data, label)`.
   */
  constructor(options) {
    this.#options = options;
    this.#localStream = options.localStream ?? null;
    const connection = new RTCPeerConnection({
      iceServers: options.iceServers ?? [],
      bundlePolicy: 'max-bundle',
    });
    this.#connection = connection;
    connection.onicecandidate = ({ candidate }) => {
      if (candidate?.candidate) options.oncandidate(candidate);
    };
    connection.ontrack = ({ track }) => {
      this.remoteStream.addTrack(track);
      options.ontrack?.(track);
    };
    connection.oniceconnectionstatechange = () => this.#stateChanged();
    connection.onconnectionstatechange = () => {
      // A broken DTLS handshake fails the connection although ICE works.
      if (connection.connectionState === 'failed') this.#stateChanged();
    };
    connection.ondatachannel = ({ channel }) => this.#listen(channel);
    if (options.direction !== 'sendonly') this.remoteStream = new MediaStream();
    for (const kind of ['audio', 'video']) {
      if (options[kind]) this.#addTransceiver(kind);
    }
    if (options.dataChannel) {
      this.dataChannel = connection.createDataChannel(options.dataChannel);
      this.#listen(this.dataChannel);
    }
  }

  get id() {
    return this.#options.id;
  }

  get peerConnection() {
    return this.#connection;
  }

  get enabled() {
    return this.audioEnabled || this.videoEnabled;
  }

  set enabled(on) {
    this.audioEnabled = on;
    this.videoEnabled = on;
  }

  get audioEnabled() {
    return this.#localTracks('audio').some((track) => track.enabled);
  }

  set audioEnabled(on) {
    for (const track of this.#localTracks('audio')) track.enabled = Boolean(on);
  }

  get videoEnabled() {
    return this.#localTracks('video').some((track) => track.enabled);
  }

  set videoEnabled(on) {
    for (const track of this.#localTracks('video')) track.enabled = Boolean(on);
  }

  /** Resolves with the SDP to send. Candidates are reported from here on. */
  async createOffer() {
    const connection = this.#connection;
    await connection.setLocalDescription(await connection.createOffer());
    return connection.localDescription.sdp;
  }

  async setAnswer(sdp) {
    await this.#connection.setRemoteDescription({ type: 'answer', sdp });
    this.#answered = true;
    await this.#undoRefusedSimulcast();
    for (const candidate of this.#candidates.splice(0)) this.#apply(candidate);
  }

  /** Accepts `{candidate, sdpMid, sdpMLineIndex}` at any time. */
  addIceCandidate(candidate) {
    if (this.#answered) this.#apply(candidate);
    else if (this.#candidates.length < QUEUED_CANDIDATES_MAX) this.#candidates.push(candidate);
  }

  /** Sends another track, or none, without a new offer; false if this kind was never negotiated. */
  async replaceTrack(kind, track) {
    const transceiver = this.#transceiver(kind);
    if (!transceiver || transceiver.direction === 'recvonly') return false;
    await transceiver.sender.replaceTrack(track);
    if (kind === 'video') await this.#activate(transceiver.sender);
    return true;
  }

  /** Encodes only the layers that are wanted, of `[{rid, wanted}]`; those not named go on as they were. */
  async setLayersWanted(layers) {
    for (const { rid, wanted } of layers) this.#layersWanted.set(rid, wanted);
    const sender = this.#transceiver('video')?.sender;
    if (sender?.track) await this.#activate(sender);
  }

  send(data) {
    if (this.dataChannel?.readyState !== 'open') throw new Error('Data channel is not opened');
    this.dataChannel.send(data);
  }

  getStats() {
    return this.#connection.getStats();
  }

  getLocalStream() {
    return this.#localStream;
  }

  getRemoteStream() {
    return this.remoteStream;
  }

  getLocalSessionDescriptor() {
    return this.#connection.localDescription;
  }

  getRemoteSessionDescriptor() {
    return this.#connection.remoteDescription;
  }

  dispose() {
    const connection = this.#connection;
    connection.onicecandidate = null;
    connection.ontrack = null;
    connection.oniceconnectionstatechange = null;
    connection.onconnectionstatechange = null;
    connection.ondatachannel = null;
    connection.close();
  }

  #addTransceiver(kind) {
    const { direction, codec, simulcast } = this.#options;
    const [track] = this.#localTracks(kind);
    const init = { direction };
    if (this.#localStream && direction !== 'recvonly') init.streams = [this.#localStream];
    if (kind === 'video' && simulcast) init.sendEncodings = SIMULCAST_ENCODINGS.map((encoding) => ({ ...encoding }));
    const transceiver = this.#connection.addTransceiver(direction === 'recvonly' ? kind : track ?? kind, init);
    if (kind === 'video' && codec) preferCodec(transceiver, codec, direction);
  }

  /** Without this, Firefox repeats the last picture of a track that is gone, once a second. */
  #activate(sender) {
    return this.#encode(sender, (encoding) => {
      const active = sender.track !== null && (this.#layersWanted.get(encoding.rid) ?? true);
      if ((encoding.active ?? true) === active) return false;
      encoding.active = active;
      return true;
    });
  }

  /** Of a server without simulcast only the first encoding is left, and that is the smallest. */
  async #undoRefusedSimulcast() {
    const sender = this.#options.simulcast ? this.#transceiver('video')?.sender : null;
    if (sender?.getParameters?.().encodings?.length !== 1) return;
    await this.#encode(sender, (encoding) => {
      if ((encoding.scaleResolutionDownBy ?? 1) === 1) return false;
      encoding.scaleResolutionDownBy = 1;
      return true;
    });
  }

  /** Changes encodings; `change(encoding)` tells whether it changed one. */
  #encode(sender, change) {
    this.#encoding = this.#encoding.then(async () => {
      const parameters = sender.getParameters?.();
      const changed = (parameters?.encodings ?? []).filter(change);
      if (changed.length === 0) return;
      // Refused only while nothing is negotiated, and then nothing is sent either.
      await sender.setParameters(parameters).catch((error) => console.debug('encodings unchanged:', error.message));
    });
    return this.#encoding;
  }

  #transceiver(kind) {
    return this.#connection.getTransceivers().find(({ receiver }) => receiver.track.kind === kind);
  }

  #localTracks(kind) {
    return this.#localStream?.getTracks().filter((track) => track.kind === kind) ?? [];
  }

  #apply(candidate) {
    // A candidate of an earlier negotiation is refused; the connection does not depend on it.
    this.#connection.addIceCandidate(candidate).catch((error) => console.debug('candidate refused:', error.message));
  }

  #stateChanged() {
    const { connectionState, iceConnectionState } = this.#connection;
    this.#options.onstate(iceConnectionState, connectionState === 'failed' || iceConnectionState === 'failed');
  }

  #listen(channel) {
    channel.binaryType = 'arraybuffer';
    channel.onmessage = ({ data }) => this.#options.onmessage?.(data, channel.label);
  }
}

function preferCodec(transceiver, codec, direction) {
  const source = direction === 'recvonly' ? globalThis.RTCRtpReceiver : globalThis.RTCRtpSender;
  const wanted = `video/${codec}`.toLowerCase();
  const formats = source.getCapabilities('video')?.codecs ?? [];
  const chosen = formats.filter(({ mimeType }) => mimeType.toLowerCase() === wanted);
  if (chosen.length === 0) throw new Error(`This browser has no codec ${codec}`);
  transceiver.setCodecPreferences([...chosen, ...formats.filter(({ mimeType }) => HELPER_FORMATS.test(mimeType))]);
}

// Tells when somebody speaks, from the loudest frequency of an audio track.

const SAMPLE_INTERVAL_MS = 50;
/** Loud samples of the last `HISTORY` that start speech. Fewer: clicks count. More: slow. */
const LOUD_SAMPLES_TO_START = 3;
/** Samples that must all be quiet before speech ends. Fewer: it flickers between words. */
const HISTORY = 10;
/** The lowest bins hold hum and rumble. */
const FIRST_BIN = 4;

// Browsers allow only a few contexts per page.
let sharedContext = null;

function audioContext() {
  const Context = globalThis.AudioContext;
  if (!Context) return null;
  sharedContext ??= new Context();
  // Without a user's gesture the context starts suspended; it is asked again for each stream.
  if (sharedContext.state === 'suspended') sharedContext.resume().catch(() => {});
  return sharedContext;
}

class SpeakingDetector {
  #source = null;
  #timer = null;
  #speaking = false;
  #onstop;

  /** `threshold` is in dB (below 0). `handlers`: `onspeaking()`, `onstopped()`. */
  constructor(mediaStream, threshold, handlers) {
    this.#onstop = handlers.onstopped;
    const context = audioContext();
    if (!context || mediaStream.getAudioTracks().length === 0) return;
    const analyser = context.createAnalyser();
    analyser.fftSize = 512;
    analyser.smoothingTimeConstant = 0.1;
    this.#source = context.createMediaStreamSource(mediaStream);
    this.#source.connect(analyser);
    const bins = new Float32Array(analyser.frequencyBinCount);
    const history = new Array(HISTORY).fill(false);
    this.#timer = setInterval(() => {
      analyser.getFloatFrequencyData(bins);
      history.shift();
      history.push(bins.subarray(FIRST_BIN).some((decibel) => decibel > threshold && decibel < 0));
      const loud = history.filter(Boolean).length;
      if (!this.#speaking && loud >= LOUD_SAMPLES_TO_START) {
        this.#speaking = true;
        handlers.onspeaking();
      } else if (this.#speaking && loud === 0) {
        this.#speaking = false;
        handlers.onstopped();
      }
    }, SAMPLE_INTERVAL_MS);
  }

  stop() {
    clearInterval(this.#timer);
    this.#source?.disconnect();
    this.#source = null;
    if (!this.#speaking) return;
    this.#speaking = false;
    this.#onstop();
  }
}

// The elements a stream is shown with. Ids and classes are those applications style.

const NAME_LENGTH_MAX = 16;

class StreamView {
  #stream;
  #videos = [];
  #nodes = [];
  #media = null;
  #onshown;
  #ongone;

  /** `onshown(video)` and `ongone(video)`: an element is used, and not any more. */
  constructor(stream, { onshown, ongone } = {}) {
    this.#stream = stream;
    this.#onshown = onshown;
    this.#ongone = ongone;
  }

  /** `parent`: element or its id. `thumbnailId`: hidden element, or its id, to show with the media. */
  playOnlyVideo(parent, thumbnailId) {
    const globalId = this.#stream.getGlobalID();
    const video = document.createElement('video');
    video.id = `native-video-${globalId}`;
    video.autoplay = true;
    video.controls = false;
    // Phones would open their own player.
    video.playsInline = true;
    video.muted = this.#stream.isLocal;
    element(parent)?.append(video);
    this.#nodes.push(video);
    this.#videos.push({ video, thumbnailId });
    const media = this.#media ?? this.#stream.getLocalMediaStream();
    if (media) this.#show({ video, thumbnailId }, media);
    this.#onshown?.(video);
    return video;
  }

  playThumbnail(parentId) {
    const globalId = this.#stream.getGlobalID();
    const container = document.createElement('div');
    container.className = 'participant';
    container.id = globalId;
    element(parentId)?.append(container);
    this.#nodes.push(container);

    const name = document.createElement('div');
    name.className = 'name';
    name.id = `name-${globalId}`;
    name.title = globalId;
    name.textContent = shorten(globalId.replace('_webcam', ''));
    container.append(name);

    const spinner = document.createElement('div');
    spinner.id = `progress-${globalId}`;
    const image = document.createElement('img');
    image.src = 'img/spinner.gif';
    image.alt = '';
    spinner.append(image);
    container.append(spinner);

    return this.playOnlyVideo(container, container);
  }

  /** Shows other media in all elements, those to come included. */
  play(mediaStream) {
    this.#media = mediaStream;
    this.#forgetRemoved();
    for (const entry of this.#videos) this.#show(entry, mediaStream);
  }

  dispose() {
    for (const { video } of this.#videos) {
      video.srcObject = null;
      this.#ongone?.(video);
    }
    for (const node of this.#nodes) node.remove();
    this.#videos = [];
    this.#nodes = [];
  }

  /** A video the application took off the page would still be heard. */
  #forgetRemoved() {
    this.#videos = this.#videos.filter(({ video }) => {
      const removed = video.srcObject && !video.isConnected;
      if (removed) {
        video.srcObject = null;
        this.#ongone?.(video);
      }
      return !removed;
    });
  }

  #show({ video, thumbnailId }, mediaStream) {
    if (video.srcObject !== mediaStream) video.srcObject = mediaStream;
    const thumbnail = element(thumbnailId);
    if (thumbnail) {
      thumbnail.hidden = false;
      thumbnail.style.display = '';
    }
    document.getElementById(`progress-${this.#stream.getGlobalID()}`)?.remove();
  }
}

function element(nodeOrId) {
  return typeof nodeOrId === 'string' ? document.getElementById(nodeOrId) : nodeOrId ?? null;
}

function shorten(name) {
  return name.length >= NAME_LENGTH_MAX ? `${name.slice(0, NAME_LENGTH_MAX)}...` : name;
}

// How large a stream is shown, and whether at all: what is not seen need not be sent.

/** A picture this much higher than its place looks better than the next smaller one stretched. */
const HEADROOM = 1.5;
/** Heights are asked for in steps, so that a window being resized does not ask for each pixel. */
const HEIGHT_STEP = 30;
/** What the protocol can say. */
const HEIGHT_MAX = 16_384;
/** Somebody waits for a sharp picture. */
const GROW_DELAY_MS = 100;
/** A glance at another tab, or a scroll past, is not worth a new key frame. */
const SHRINK_DELAY_MS = 1_500;

/** Until the first picture tells. */
const DEFAULT_RATIO = 16 / 9;

/** Watches the elements that show one stream. */
class Viewing {
  /** Element → what the observers said of it. */
  #elements = new Map();
  #onchange;
  #sizes;
  #visibilities;
  #timer = null;
  /** What was wanted when `onchange` was called last. */
  #told = {};
  #changed = () => this.#reconsider();

  /**
   * `onchange()` is called some time after what is seen has changed; `wanted` tells what.
   * Null where the browser cannot tell.
   */
  static create(onchange) {
    const able = globalThis.ResizeObserver && globalThis.IntersectionObserver && globalThis.document;
    return able ? new Viewing(onchange) : null;
  }

  constructor(onchange) {
    this.#onchange = onchange;
    this.#sizes = new ResizeObserver(this.#changed);
    this.#visibilities = new IntersectionObserver((entries) => {
      for (const { target, isIntersecting } of entries) {
        const element = this.#elements.get(target);
        if (element) element.visible = isIntersecting;
      }
      this.#reconsider();
    });
    document.addEventListener('visibilitychange', this.#changed);
  }

  observe(video) {
    if (this.#elements.has(video)) return;
    this.#elements.set(video, { visible: null });
    this.#sizes.observe(video);
    this.#visibilities.observe(video);
    for (const event of ['resize', 'enterpictureinpicture', 'leavepictureinpicture']) {
      video.addEventListener(event, this.#changed);
    }
    this.#reconsider();
  }

  unobserve(video) {
    if (!this.#elements.delete(video)) return;
    this.#sizes.unobserve(video);
    this.#visibilities.unobserve(video);
    for (const event of ['resize', 'enterpictureinpicture', 'leavepictureinpicture']) {
      video.removeEventListener(event, this.#changed);
    }
    this.#reconsider();
  }

  /** `{pauseVideo: true}`, `{maxHeight}`, or `{}` if everything is wanted. */
  get wanted() {
    // Whoever shows it in ways unknown here gets everything.
    if (this.#elements.size === 0) return {};
    const heights = [];
    for (const [video, { visible }] of this.#elements) {
      if (visible === null) return {};
      if (isInPicture(video)) return {};
      if (visible && !document.hidden) heights.push(heightOf(video));
    }
    if (heights.length === 0) return { pauseVideo: true };
    const height = Math.max(...heights);
    // Laid out, but without a size yet.
    if (height === 0) return {};
    return { maxHeight: Math.min(HEIGHT_MAX, Math.ceil((height * HEADROOM) / HEIGHT_STEP) * HEIGHT_STEP) };
  }

  dispose() {
    document.removeEventListener('visibilitychange', this.#changed);
    for (const video of [...this.#elements.keys()]) this.unobserve(video);
    clearTimeout(this.#timer);
    this.#sizes.disconnect();
    this.#visibilities.disconnect();
  }

  #reconsider() {
    clearTimeout(this.#timer);
    const change = rank(this.wanted) - rank(this.#told);
    // The difference of two infinities is none.
    if (!change) return;
    this.#timer = setTimeout(() => {
      this.#told = this.wanted;
      this.#onchange();
    }, change > 0 ? GROW_DELAY_MS : SHRINK_DELAY_MS);
  }
}

/** A place in the order from nothing to everything. */
function rank({ pauseVideo, maxHeight }) {
  return pauseVideo ? 0 : maxHeight ?? Infinity;
}

/** In a window of its own, whose size the page does not learn. */
function isInPicture(video) {
  return document.pictureInPictureElement === video;
}

/** Pixels of the screen that the whole picture would be high, shown as it is. */
function heightOf(video) {
  const { width, height } = video.getBoundingClientRect();
  const ratio = video.videoWidth > 0 ? video.videoWidth / video.videoHeight : DEFAULT_RATIO;
  const byWidth = width / ratio;
  const fit = getComputedStyle(video).objectFit;
  const shown = fit === 'cover' || fit === 'fill' ? Math.max(height, byWidth) : Math.min(height, byWidth);
  return shown * (globalThis.devicePixelRatio || 1);
}

// Somebody in the room, and the streams they publish.

class Participant {
  #kurento;
  #id;
  #streams = Object.create(null);

  constructor(kurento, local, room, options) {
    this.#kurento = kurento;
    this.local = local;
    this.room = room;
    this.#id = options.id;
  }

  getID() {
    return this.#id;
  }

  setId(id) {
    this.#id = id;
  }

  /** Adds it to the room's streams too. */
  addStream(stream) {
    this.#streams[stream.getID()] = stream;
    this.room.getStreams()[stream.getGlobalID()] = stream;
  }

  removeStream(stream) {
    if (this.#streams[stream.getID()] === stream) delete this.#streams[stream.getID()];
    const streams = this.room.getStreams();
    if (streams[stream.getGlobalID()] === stream) delete streams[stream.getGlobalID()];
  }

  /** The streams by their id. */
  getStreams() {
    return this.#streams;
  }

  dispose() {
    for (const stream of Object.values(this.#streams)) {
      stream.dispose();
      this.removeStream(stream);
    }
  }

  /** Tells the server about a candidate of the peer connection that carries this participant. */
  sendIceCandidate({ candidate, sdpMid, sdpMLineIndex }) {
    const params = { endpointName: this.#id, candidate, sdpMid, sdpMLineIndex };
    this.#kurento.request('onIceCandidate', params).catch((error) => {
      console.debug('candidate not delivered:', error.message);
    });
  }
}

// Audio and video of one participant: the own one is captured and published, another's is received.


/** Waits before a failed peer connection is made anew, one per attempt. */
const RESTART_DELAYS_MS = [500, 2_000, 5_000];
/** A connection that lived this long has earned fresh attempts. */
const STABLE_AFTER_MS = 30_000;
/** Candidates kept while there is no peer connection yet. */
const EARLY_CANDIDATES_MAX = 64;

class Stream extends Emitter {
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

// A room as one user sees it: who is there, what they publish, and the way back after an outage.


const UPDATE_SPEAKER_INTERVAL_MS = 1500;
const THRESHOLD_SPEAKER_DB = -50;

/** The server may hold our own name until the grace period of the lost session is over. */
const NAME_RETRY_INTERVAL_MS = 2_000;
const NAME_RETRIES_MAX = 10;

/** Notifications kept while a join is under way. */
const QUEUED_NOTIFICATIONS_MAX = 1_000;

class Room extends Emitter {
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

// The connection to a room server, and the way to its rooms.


/** Notification → method of the room that takes its parameters. */
const NOTIFICATIONS = {
  participantJoined: 'onParticipantJoined',
  participantPublished: 'onParticipantPublished',
  participantUnpublished: 'onParticipantUnpublished',
  participantLeft: 'onParticipantLeft',
  participantEvicted: 'onParticipantEvicted',
  sendMessage: 'onNewMessage',
  iceCandidate: 'recvIceCandidate',
  roomClosed: 'onRoomClosed',
  mediaError: 'onMediaError',
  videoDelivery: 'onVideoDelivery',
  layersWanted: 'onLayersWanted',
  activeSpeakers: 'onActiveSpeakers',
  // Misspelt on the wire since the first release.
  custonNotification: 'onCustomNotification',
  customNotification: 'onCustomNotification',
};

/**
 * Opens the connection; `callback(error, kurento)` is called once, when it is open or has failed.
 * Works with and without `new`.
 */
function KurentoRoom(wsUri, callback, options = {}) {
  if (!(this instanceof KurentoRoom)) return new KurentoRoom(wsUri, callback, options);
  const kurento = this;
  let room = null;
  let rpcParams = {};
  let settleReady;

  kurento.options = options;
  /** Resolves with this object when the connection is open. */
  kurento.ready = quiet(new Promise((resolve, reject) => {
    settleReady = (error) => {
      if (error) reject(error);
      else resolve(kurento);
      const call = callback;
      callback = null;
      call?.(error, error ? undefined : kurento);
    };
  }));

  const rpc = new RpcClient(wsUri, {
    onopen: () => settleReady(null),
    onnotification(method, params) {
      const handler = NOTIFICATIONS[method];
      if (!handler) console.warn(`unknown notification '${method}' ignored`);
      else if (!room) console.warn(`notification '${method}' ignored: there is no room yet`);
      else room[handler](params);
    },
    onreconnecting: () => room?.onReconnecting(),
    onreconnected: ({ resumed }) => room?.onReconnected(resumed),
    onclosed(error) {
      settleReady(error);
      room?.onLostConnection();
    },
  }, rpcOptions(options));

  /** Sends a request with the application's parameters; resolves with the result. */
  kurento.request = (method, params) => {
    // The protocol's own parameters win over an application's of the same name.
    const all = { ...params, ...rpcParams, ...params };
    return rpc.request(method, Object.keys(all).length > 0 ? all : undefined);
  };

  /** Resolves when requests reach the server, at once or after a reconnection. */
  kurento.whenOpen = () => rpc.whenOpen();

  /** Replaces the WebSocket, as if the network had dropped it. */
  kurento.reconnect = () => rpc.reconnect();

  kurento.getRpcClient = () => rpc;

  kurento.Room = function (roomOptions) {
    room = new Room(kurento, roomOptions);
    return room;
  };

  kurento.Stream = function (ofRoom, streamOptions) {
    streamOptions.participant = ofRoom.getLocalParticipant();
    return new Stream(kurento, true, ofRoom, streamOptions);
  };

  kurento.setRpcParams = (params) => {
    rpcParams = { ...params };
  };

  kurento.sendRequest = (method, params, done) => {
    if (typeof params === 'function') [params, done] = [undefined, params];
    const answer = kurento.request(method, params);
    answer.then((result) => done?.(undefined, result), (error) => done?.(error));
    return quiet(answer);
  };

  kurento.sendMessage = (roomName, userName, text) => kurento.sendRequest('sendMessage', {
    message: text,
    userMessage: userName,
    roomMessage: roomName,
  });

  kurento.sendCustomRequest = (params, done) => kurento.sendRequest('customRequest', params, done);

  kurento.disconnectParticipant = (stream) => room?.disconnect(stream) ?? false;

  /** Leaves the room and closes the connection; `forced`: without telling the server. */
  kurento.close = (forced = false) => {
    if (room) return room.leave(forced, rpc);
    rpc.close();
    return Promise.resolve();
  };
}

function rpcOptions({ heartbeat, requestTimeout, giveUpAfter, WebSocket }) {
  const chosen = { heartbeatMs: heartbeat, requestTimeoutMs: requestTimeout, giveUpAfterMs: giveUpAfter, WebSocket };
  return Object.fromEntries(Object.entries(chosen).filter(([, value]) => value !== undefined));
}

Object.assign(global, { KurentoRoom, Room, Participant, Stream, jq: (id) => '#' + CSS.escape(id) });
})(globalThis);
