// Stand-ins for what a browser gives: sockets, peer connections, media, nodes.

import { mock } from 'node:test';
import { KurentoRoom } from '../tertulia-room.js';
import { advance, installClock } from './clock.mjs';

export class FakeWebSocket {
  static all = [];
  sent = [];
  closed = false;

  constructor(url) {
    this.url = url;
    FakeWebSocket.all.push(this);
  }

  static get last() {
    return FakeWebSocket.all.at(-1);
  }

  send(frame) {
    this.sent.push(frame);
  }

  close() {
    this.closed = true;
  }

  /** The frames sent since the last call. */
  take() {
    return this.sent.splice(0);
  }
}

export class FakeMediaStream {
  constructor(tracks = []) {
    this.tracks = [...tracks];
  }

  getTracks() {
    return [...this.tracks];
  }

  getAudioTracks() {
    return this.tracks.filter(({ kind }) => kind === 'audio');
  }

  addTrack(track) {
    this.tracks.push(track);
  }

  removeTrack(track) {
    this.tracks = this.tracks.filter((other) => other !== track);
  }
}

export function fakeTrack(kind) {
  return {
    kind,
    enabled: true,
    stopped: false,
    stop() {
      this.stopped = true;
    },
    addEventListener() {},
  };
}

export class FakePeerConnection {
  static all = [];
  iceConnectionState = 'new';
  connectionState = 'new';
  localDescription = null;
  remoteDescription = null;
  transceivers = [];
  channels = [];
  candidates = [];
  closed = false;

  constructor(configuration) {
    this.configuration = configuration;
    FakePeerConnection.all.push(this);
  }

  static get last() {
    return FakePeerConnection.all.at(-1);
  }

  addTransceiver(trackOrKind, init) {
    const kind = trackOrKind.kind ?? trackOrKind;
    const sender = {
      track: trackOrKind.kind ? trackOrKind : null,
      async replaceTrack(track) {
        this.track = track;
      },
      encodings: [{ active: true }],
      getParameters() {
        return { encodings: this.encodings.map((encoding) => ({ ...encoding })) };
      },
      async setParameters({ encodings }) {
        this.encodings = encodings;
      },
    };
    const transceiver = { sender, receiver: { track: { kind } }, direction: init.direction, init };
    this.transceivers.push(transceiver);
    return transceiver;
  }

  getTransceivers() {
    return this.transceivers;
  }

  createDataChannel(label) {
    const channel = { label, readyState: 'connecting', sent: [], send: (data) => channel.sent.push(data) };
    this.channels.push(channel);
    return channel;
  }

  async createOffer() {
    return { type: 'offer', sdp: 'v=0…' };
  }

  async setLocalDescription(description) {
    this.localDescription = description;
  }

  async setRemoteDescription(description) {
    if (description.sdp === 'bad') throw new Error('bad answer');
    this.remoteDescription = description;
    for (const { direction, receiver } of this.transceivers) {
      if (direction !== 'sendonly') this.ontrack({ track: receiver.track });
    }
  }

  async addIceCandidate(candidate) {
    this.candidates.push(candidate);
  }

  async getStats() {
    return new Map();
  }

  close() {
    this.closed = true;
  }

  /** As the browser reports a change. */
  become(state) {
    this.iceConnectionState = state;
    this.connectionState = state;
    this.oniceconnectionstatechange?.();
    this.onconnectionstatechange?.();
  }
}

/** What `getUserMedia` does next; a test replaces it. */
export const devices = {
  async getUserMedia({ audio, video }) {
    const tracks = [];
    if (audio) tracks.push(fakeTrack('audio'));
    if (video) tracks.push(fakeTrack('video'));
    return new FakeMediaStream(tracks);
  },
};

export function installBrowser() {
  FakeWebSocket.all = [];
  FakePeerConnection.all = [];
  mock.restoreAll();
  installClock();
  mock.method(Math, 'random', () => 0);
  mock.method(console, 'warn', () => {});
  mock.method(console, 'debug', () => {});
  Object.assign(globalThis, {
    WebSocket: FakeWebSocket,
    RTCPeerConnection: FakePeerConnection,
    MediaStream: FakeMediaStream,
  });
  Object.defineProperty(globalThis, 'navigator', { value: { mediaDevices: devices }, configurable: true });
}

/** Lets everything that waits for a promise run. */
export async function settle() {
  for (let turn = 0; turn < 5; turn += 1) await new Promise((resolve) => setImmediate(resolve));
}

export async function tick(milliseconds) {
  advance(milliseconds);
  await settle();
}

/** The server's side of the newest socket. */
export const server = {
  get socket() {
    return FakeWebSocket.last;
  },

  accept() {
    this.socket.onopen({});
    return settle();
  },

  say(text) {
    this.socket.onmessage({ data: text });
    return settle();
  },

  notify(method, params) {
    return this.say(JSON.stringify({ method, params, jsonrpc: '2.0' }));
  },

  drop() {
    this.socket.onclose({});
    return settle();
  },

  /** The requests received since the last call, without pings. */
  requests() {
    return this.socket.take().map((frame) => JSON.parse(frame)).filter(({ method }) => method !== 'ping');
  },

  /** Answers the oldest unanswered request called `method`; gives its parameters back. */
  async answer(method, result, sessionId = 'S1') {
    const request = this.take(method);
    await this.say(JSON.stringify({ id: request.id, result: { ...result, sessionId }, jsonrpc: '2.0' }));
    return request.params;
  },

  async refuse(method, code, message) {
    const request = this.take(method);
    await this.say(JSON.stringify({ id: request.id, error: { code, message }, jsonrpc: '2.0' }));
    return request.params;
  },

  take(method) {
    const index = this.socket.sent.findIndex((frame) => JSON.parse(frame).method === method);
    if (index < 0) throw new Error(`no request ${method} in ${this.socket.sent}`);
    return JSON.parse(this.socket.sent.splice(index, 1)[0]);
  },
};

/** Every event of `room` in the order it came, as `[name, payload]`. */
export function record(room, log = []) {
  const emit = room.emitEvent.bind(room);
  room.emitEvent = (name, args) => {
    log.push([name, ...(args ?? [])]);
    emit(name, args);
  };
  return log;
}

export async function connected(options = {}, kurentoOptions = {}) {
  const kurento = KurentoRoom('wss://host/room', () => {}, { heartbeat: 0, ...kurentoOptions });
  const room = kurento.Room({ room: 'lab', user: 'alice', ...options });
  await server.accept();
  return { kurento, room, log: record(room) };
}

export async function joined(peers = [], options = {}, kurentoOptions = {}) {
  const all = await connected(options, kurentoOptions);
  all.room.connect();
  await settle();
  await server.answer('joinRoom', { value: peers });
  all.log.length = 0;
  return all;
}

export const BOB = { id: 'bob', streams: [{ id: 'webcam' }] };
export const ANSWER = { sdpAnswer: 'v=0…' };

export const names = (log) => log.map(([name]) => name);
