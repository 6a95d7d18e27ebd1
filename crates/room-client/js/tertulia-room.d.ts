// Types of the room client for browsers.

export interface RoomErrorLike {
  /** Of the room protocol (102, 104, …), or one of `ErrorCode`. */
  code: number;
  message: string;
  data?: unknown;
}

export declare class RoomError extends Error implements RoomErrorLike {
  constructor(code: number, message: string, data?: unknown);
  code: number;
  data?: unknown;
  toJSON(): RoomErrorLike;
}

export declare const ErrorCode: Readonly<{
  EXISTING_USER: 104;
  TIMEOUT: 801;
  BAD_RESPONSE: 802;
  CONNECTION_LOST: 803;
  METHOD_NOT_FOUND: -32601;
  RECONNECTION: 40007;
}>;

/** Events by name; the value is the listener's arguments. */
export type EventMap = Record<string, unknown[]>;

export declare class Emitter<Events extends { [Name in keyof Events]: unknown[] } = EventMap> {
  addEventListener<Name extends keyof Events>(name: Name, listener: (...args: Events[Name]) => void): this;
  once<Name extends keyof Events>(name: Name, listener: (...args: Events[Name]) => void): this;
  removeEventListener<Name extends keyof Events>(name: Name, listener: (...args: Events[Name]) => void): this;
  emitEvent<Name extends keyof Events>(name: Name, args?: Events[Name]): void;
}

export interface KurentoRoomOptions {
  /** For all streams that have none of their own. */
  iceServers?: RTCIceServer[];
  /** Milliseconds between pings (3000); 0: none. */
  heartbeat?: number;
  /** Milliseconds until a request, or a ping, counts as unanswered (15000). */
  requestTimeout?: number;
  /** Milliseconds after which an interrupted connection is given up (120000). */
  giveUpAfter?: number;
  /** Report an unpublished stream as `participant-left` and `stream-removed` too (true). */
  legacyUnpublishAsLeft?: boolean;
  /** In place of the global one. */
  WebSocket?: typeof WebSocket;
}

export type AnswerCallback = (error: RoomErrorLike | undefined, result?: any) => void;

export interface KurentoRoom {
  readonly options: KurentoRoomOptions;
  /** Resolves when the connection is open. */
  readonly ready: Promise<KurentoRoom>;
  Room(options: RoomOptions): Room;
  Stream(room: Room, options: StreamOptions): Stream;
  /** Adds these to the parameters of all requests; the protocol's own win. */
  setRpcParams(params: Record<string, unknown>): void;
  sendRequest(method: string, callback?: AnswerCallback): Promise<any>;
  sendRequest(method: string, params: Record<string, unknown> | undefined, callback?: AnswerCallback): Promise<any>;
  sendMessage(roomName: string, userName: string, text: string): Promise<any>;
  sendCustomRequest(params: Record<string, unknown>, callback?: AnswerCallback): Promise<any>;
  /** False if the stream belongs to nobody. */
  disconnectParticipant(stream: Stream): Promise<any> | false;
  /** Leaves the room and closes the connection; `forced`: without telling the server. */
  close(forced?: boolean): Promise<void>;

  request(method: string, params?: Record<string, unknown>): Promise<any>;
  /** Resolves when requests reach the server. */
  whenOpen(): Promise<void>;
  /** Replaces the WebSocket; the session goes on. */
  reconnect(): void;
  getRpcClient(): RpcClient;
}

export interface KurentoRoomConstructor {
  new (wsUri: string, callback?: OpenCallback | null, options?: KurentoRoomOptions): KurentoRoom;
  (wsUri: string, callback?: OpenCallback | null, options?: KurentoRoomOptions): KurentoRoom;
}

/** Called once: with the open connection, or with the error that prevented it. */
export type OpenCallback = (error: RoomErrorLike | null, kurento?: KurentoRoom) => void;

export declare const KurentoRoom: KurentoRoomConstructor;

export interface RoomOptions {
  room: string;
  user: string;
  /** Receive what others publish without being asked to (true). */
  subscribeToStreams?: boolean;
  /** Milliseconds between `update-main-speaker` (1500). */
  updateSpeakerInterval?: number;
  /** dB from which somebody counts as speaking (-50). */
  thresholdSpeaker?: number;
  /** Join with data channels also without an own stream that has `data` (false). */
  dataChannels?: boolean;
  /**
   * Ask for each picture as large as it is shown, and for none that is not; publish simulcast; be told what becomes of
   * videos and who speaks (false). Takes Tertulia as server; others send everything, as without it.
   */
  adaptive?: boolean;
  iceServers?: RTCIceServer[];
  legacyUnpublishAsLeft?: boolean;
}

export interface RoomEvents {
  'room-connected': [{ participants: Participant[]; streams: Stream[] }];
  'error-room': [{ error: RoomErrorLike }];
  'room-closed': [{ room: string }];
  /** The connection was interrupted; the client tries to get it back. */
  'reconnecting': [{ room: string }];
  /** `resumed`: nothing was lost. Otherwise the room was joined again, and media are coming back. */
  'reconnected': [{ room: string; resumed: boolean }];
  /** The connection was given up. Once, and the room is over. */
  'lost-connection': [{ room: string }];
  'participant-joined': [{ participant: Participant }];
  'participant-published': [{ participant: Participant }];
  'participant-unpublished': [{ participant: Participant }];
  'participant-left': [{ participant: Participant }];
  'participant-evicted': [{ localParticipant: Participant }];
  'stream-added': [{ stream: Stream }];
  'stream-removed': [{ stream: Stream }];
  'stream-published': [{ stream: Stream }];
  'stream-unpublished': [{ stream: Stream }];
  'stream-subscribed': [{ stream: Stream }];
  'newMessage': [{ room: string; user: string; message: string }];
  'custom-message-received': [{ params: any }];
  /** `TYPE: description(errCode=N)`. After `SERVER_SHUTDOWN` and `MEDIA_SERVER_LOST`, `room-closed` follows. */
  'error-media': [{ error: string }];
  'error-publish': [{ stream: Stream; error: RoomErrorLike | Error }];
  'error-subscribe': [{ stream: Stream; error: RoomErrorLike | Error }];
  'ice-state-changed': [{ stream: Stream; state: RTCIceConnectionState }];
  'data-channel-message': [{ stream: Stream; data: string | ArrayBuffer; label: string }];
  /** `participantId` is the stream's global id. */
  'stream-speaking': [{ participantId: string }];
  'stream-stopped-speaking': [{ participantId: string }];
  'update-main-speaker': [{ participantId: string }];
  /** In an adaptive room: the server sends another layer of a video, or holds it back. */
  'video-delivery': [{ stream: Stream; delivery: VideoDelivery }];
  /** In an adaptive room: which of the own layers anybody watches. The others are not encoded. */
  'layers-wanted': [{ layers: { rid: string; wanted: boolean }[] }];
  /** In an adaptive room: who has the floor (null: nobody spoke yet), and who speaks. */
  'active-speakers': [{ dominant: Participant | null; speaking: Participant[] }];
}

/** What the server makes of a received video: a layer, or none. */
export type VideoDelivery = {
  /** Picture size, 0 the smallest. */
  spatialLayer: number;
  /** Frame rate, 0 the lowest. */
  temporalLayer: number;
  /** Picture sizes that are sent at present. */
  spatialLayers: number;
  /** Pixels; 0 if not known. */
  height: number;
  paused?: undefined;
} | {
  /**
   * `client`: by `pauseVideo`, or not seen; `room`: it shows others, who spoke more recently; `bandwidth`: the way
   * here is too slow; `source`: nothing is published.
   */
  paused: 'client' | 'room' | 'bandwidth' | 'source';
};

/** What to send of a stream; whatever is absent is not limited. */
export interface Preferences {
  /** Pixels, of a picture of 16:9. */
  maxWidth?: number;
  /** Pixels. */
  maxHeight?: number;
  /** Frames per second. */
  maxFrameRate?: number;
  /** Whose picture is improved first when not all can be (`normal`). */
  priority?: 'low' | 'normal' | 'high';
  pauseAudio?: boolean;
  pauseVideo?: boolean;
  /** This picture size and no better, 0 the smallest. In an adaptive room, whatever the size it is shown in. */
  spatialLayer?: number;
  /** This frame rate and no better, 0 the lowest. */
  temporalLayer?: number;
}

export declare class Room extends Emitter<RoomEvents> {
  constructor(kurento: KurentoRoom, options: RoomOptions);
  readonly name: string;
  readonly user: string;
  readonly options: RoomOptions;
  readonly state: 'new' | 'joining' | 'connected' | 'reconnecting' | 'left';
  readonly connected: boolean;
  readonly dataChannels: boolean;
  readonly thresholdSpeaker: number;
  /** Whether the server knows `setSubscription`; null before it was asked. */
  readonly takesPreferences: boolean | null;
  connect(): Promise<{ participants: Participant[]; streams: Stream[] }>;
  subscribe(stream: Stream): Promise<void>;
  disconnect(stream: Stream): Promise<any> | false;
  leave(forced?: boolean, rpcClient?: RpcClient): Promise<void>;
  getLocalParticipant(): Participant;
  /** By name, the local one included. */
  getParticipants(): Record<string, Participant>;
  /** By global id, own ones included. */
  getStreams(): Record<string, Stream>;
  addParticipantSpeaking(id: string): void;
  removeParticipantSpeaking(id: string): void;
  recovered(): Promise<void>;

  onParticipantJoined(params: { id: string }): void;
  onParticipantPublished(params: { id: string; streams?: { id: string }[] }): void;
  onParticipantUnpublished(params: { name: string }): void;
  onParticipantLeft(params: { name: string }): void;
  onParticipantEvicted(params?: object): void;
  onRoomClosed(params: { room: string }): void;
  onNewMessage(params: { room: string; user: string; message: string }): void;
  onCustomNotification(params: any): void;
  onMediaError(params: { error: string }): void;
  onVideoDelivery(params: VideoDelivery & { sender: string }): void;
  onLayersWanted(params: { layers: { rid: string; wanted: boolean }[] }): void;
  onActiveSpeakers(params: { dominant?: string; speaking: string[] }): void;
  recvIceCandidate(params: RTCIceCandidateInit & { endpointName: string }): void;
  onReconnecting(): void;
  onReconnected(resumed: boolean): void;
  onLostConnection(): void;
}

export declare class Participant {
  constructor(kurento: KurentoRoom, local: boolean, room: Room, options: { id: string });
  readonly local: boolean;
  readonly room: Room;
  getID(): string;
  setId(id: string): void;
  addStream(stream: Stream): void;
  removeStream(stream: Stream): void;
  /** By the stream's own id. */
  getStreams(): Record<string, Stream>;
  sendIceCandidate(candidate: RTCIceCandidateInit): void;
  dispose(): void;
}

export interface StreamOptions {
  /** Default: `webcam`. */
  id?: string;
  /** Set by `kurento.Stream`. */
  participant?: Participant;
  /** Offer a data channel with the publication (false). */
  data?: boolean;
  /** Capture and send sound (true). `true` said explicitly negotiates it even without a device. */
  audio?: boolean | MediaTrackConstraints;
  /** Capture and send video (true: 1280 pixels wide, 15 frames per second, if possible). */
  video?: boolean | MediaTrackConstraints;
  /** For `getUserMedia`, in place of `audio` and `video`. */
  constraints?: MediaStreamConstraints;
  /** Publish this; nothing is captured. Its tracks are never stopped. */
  mediaStream?: MediaStream;
  /** Capture a screen. Its sound is asked for only with `audio: true`. */
  screen?: boolean;
  iceServers?: RTCIceServer[];
  /** The only video codec to offer, e.g. `VP8`, `H264`, `VP9`, `AV1`. */
  codec?: string;
  /** Send three qualities (rids `q`, `h`, `f`). Default: true in an adaptive room, but not of a screen. */
  simulcast?: boolean;
  /** Of a received stream (true). */
  recvAudio?: boolean;
  recvVideo?: boolean;
}

export interface StreamEvents {
  'access-accepted': [];
  'access-denied': [{ error: Error }];
  /** A device was unplugged, or the sharing of a screen was ended in the browser. */
  'track-ended': [{ stream: Stream; track: MediaStreamTrack }];
}

export declare class Stream extends Emitter<StreamEvents> {
  constructor(kurento: KurentoRoom, local: boolean, room: Room, options?: StreamOptions);
  readonly room: Room;
  readonly isLocal: boolean;
  getID(): string;
  /** `<participant>_<id>` */
  getGlobalID(): string;
  getParticipant(): Participant;
  /** What is to be shown. */
  getWrStream(): MediaStream | null;
  getLocalMediaStream(): MediaStream | null;
  getWebRtcPeer(): Peer | null;
  getRecvVideo(): boolean | undefined;
  getRecvAudio(): boolean | undefined;
  getStats(): Promise<RTCStatsReport | null>;

  init(): Promise<MediaStream>;
  publish(): Promise<void>;
  subscribe(): Promise<void>;
  unpublish(options?: { keepMedia?: boolean }): Promise<any>;
  unsubscribe(): Promise<any>;
  dispose(): void;
  renew(): void;
  isBroken(): boolean;

  setAudioEnabled(on: boolean): void;
  setVideoEnabled(on: boolean): void;
  replaceTrack(kind: 'audio' | 'video', track: MediaStreamTrack | null): Promise<void>;
  startTrack(kind: 'audio' | 'video', constraints?: MediaTrackConstraints): Promise<MediaStreamTrack>;
  stopTrack(kind: 'audio' | 'video'): Promise<void>;

  subscribeToMyRemote(): void;
  displayMyRemote(): boolean;
  mirrorLocalStream(mediaStream?: MediaStream): void;
  isLocalMirrored(): boolean;

  /** What to send of this received stream, in place of what was said before. Resolves when the server knows. */
  setPreferences(preferences?: Preferences): Promise<void>;
  getPreferences(): Preferences;
  /** Null before the server has said. */
  getVideoDelivery(): VideoDelivery | null;
  /** In an adaptive room: this element shows the stream too. Those of `playOnlyVideo` are known. */
  observeVideo(video: HTMLVideoElement): void;
  unobserveVideo(video: HTMLVideoElement): void;
  onVideoDelivery(delivery: VideoDelivery): void;
  onLayersWanted(layers: { rid: string; wanted: boolean }[]): void;

  isDataChannelEnabled(): boolean;
  isDataChannelOpened(): boolean;
  sendData(data: string | ArrayBuffer | ArrayBufferView | Blob): void;

  playOnlyVideo(parent: string | Element, thumbnailId?: string | Element | null): HTMLVideoElement;
  playThumbnail(parentId: string | Element): HTMLVideoElement;

  publishVideoCallback(error: Error | null, sdpOffer: string, peer?: Peer): Promise<void>;
  startVideoCallback(error: Error | null, sdpOffer: string, peer?: Peer): Promise<void>;
  processSdpAnswer(sdpAnswer: string): Promise<void>;
  recvIceCandidate(candidate: RTCIceCandidateInit): void;
}

export interface PeerOptions {
  id?: string;
  direction: 'sendonly' | 'recvonly' | 'sendrecv';
  audio?: boolean;
  video?: boolean;
  localStream?: MediaStream | null;
  iceServers?: RTCIceServer[];
  codec?: string;
  simulcast?: boolean;
  /** Label of the data channel to offer. */
  dataChannel?: string | null;
  oncandidate(candidate: RTCIceCandidate): void;
  ontrack?(track: MediaStreamTrack): void;
  onstate(state: RTCIceConnectionState, failed: boolean): void;
  onmessage?(data: string | ArrayBuffer, label: string): void;
}

export declare class Peer {
  constructor(options: PeerOptions);
  readonly id: string | undefined;
  readonly peerConnection: RTCPeerConnection;
  readonly dataChannel: RTCDataChannel | null;
  readonly remoteStream: MediaStream | null;
  enabled: boolean;
  audioEnabled: boolean;
  videoEnabled: boolean;
  createOffer(): Promise<string>;
  setAnswer(sdp: string): Promise<void>;
  addIceCandidate(candidate: RTCIceCandidateInit): void;
  replaceTrack(kind: 'audio' | 'video', track: MediaStreamTrack | null): Promise<boolean>;
  /** Encodes only the layers that are wanted. */
  setLayersWanted(layers: { rid: string; wanted: boolean }[]): Promise<void>;
  send(data: string | ArrayBuffer | ArrayBufferView | Blob): void;
  getStats(): Promise<RTCStatsReport>;
  getLocalStream(): MediaStream | null;
  getRemoteStream(): MediaStream | null;
  getLocalSessionDescriptor(): RTCSessionDescription | null;
  getRemoteSessionDescriptor(): RTCSessionDescription | null;
  dispose(): void;
}

export interface RpcHandlers {
  onopen(): void;
  onnotification(method: string, params: any): void;
  onreconnecting(): void;
  onreconnected(event: { resumed: boolean }): void;
  /** Once, and not after `close()`. */
  onclosed(error: RoomError): void;
}

export interface RpcOptions {
  heartbeatMs?: number;
  requestTimeoutMs?: number;
  giveUpAfterMs?: number;
  WebSocket?: typeof WebSocket;
}

export declare class RpcClient {
  constructor(url: string, handlers: RpcHandlers, options?: RpcOptions);
  readonly state: 'connecting' | 'open' | 'reconnecting' | 'closed';
  request(method: string, params?: Record<string, unknown>): Promise<any>;
  whenOpen(): Promise<void>;
  reconnect(): void;
  close(): void;
}

export declare class SpeakingDetector {
  /** `threshold` in dB, below 0. */
  constructor(mediaStream: MediaStream, threshold: number, handlers: { onspeaking(): void; onstopped(): void });
  stop(): void;
}
