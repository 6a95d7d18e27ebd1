// JSON-RPC 2.0 over one WebSocket that is replaced when it breaks. The *session* outlives the
// socket: the id the server puts into its answers is presented by `connect` on the next socket.

import { ErrorCode, RoomError } from './errors.js';

/** A socket that has not opened by then is given up. */
const OPEN_TIMEOUT_MS = 10_000;
/** Too short: a restarting server is flooded. Too long: the user waits for a network that is back. */
const BACK_OFF_MAX_MS = 5_000;

/**
 * Milliseconds to wait before reconnection attempt `attempt` (from 0); `random` is in [0, 1).
 * The jitter keeps the clients of a restarted server from returning all at once.
 */
export function backOff(attempt, random) {
  if (attempt === 0) return Math.round(500 * random);
  const base = Math.min(1000 * 2 ** (attempt - 1), BACK_OFF_MAX_MS);
  return Math.round(base * (0.5 + random / 2));
}

export class RpcClient {
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
