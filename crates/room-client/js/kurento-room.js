// The connection to a room server, and the way to its rooms.

import { quiet } from './errors.js';
import { Room } from './room.js';
import { RpcClient } from './rpc.js';
import { Stream } from './stream.js';

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
export function KurentoRoom(wsUri, callback, options = {}) {
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
