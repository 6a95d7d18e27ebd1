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

/** Tells which packets make up a picture of AV1, and which of them another one needs. */
const DEPENDENCY_DESCRIPTOR =
  'https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension';

export class Peer {
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
    if (kind === 'video' && direction !== 'sendonly') offerDescriptor(transceiver);
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

/** Browsers that can read the descriptor do not offer it to receive; without, pictures in spatial layers stay small. */
function offerDescriptor(transceiver) {
  const extensions = transceiver.getHeaderExtensionsToNegotiate?.();
  const descriptor = extensions?.find(({ uri }) => uri === DEPENDENCY_DESCRIPTOR);
  if (!descriptor) return;
  descriptor.direction = 'sendrecv';
  transceiver.setHeaderExtensionsToNegotiate(extensions);
}
