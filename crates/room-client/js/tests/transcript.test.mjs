// The dialogue of the protocol's description, frame by frame.

import assert from 'node:assert/strict';
import { beforeEach, test } from 'node:test';
import { KurentoRoom } from '../tertulia-room.js';
import { FakePeerConnection, installBrowser, server, settle } from './fakes.mjs';

beforeEach(installBrowser);

/** Lines `C→ …` must be what the client has sent next; lines `C← …` are given to it. */
async function replay(lines) {
  for (const line of lines) {
    const frame = line.slice(3);
    if (line.startsWith('C→ ')) assert.equal(server.socket.sent.shift(), frame);
    else await server.say(frame);
  }
  assert.deepEqual(server.socket.sent, []);
}

test('a publisher talks as described', async () => {
  const kurento = KurentoRoom('wss://host/room', () => {});
  const room = kurento.Room({ room: 'lab', user: 'alice' });
  const stream = kurento.Stream(room, { audio: true, video: true });
  stream.init();
  await server.accept();
  room.connect();
  await replay([
    'C→ {"jsonrpc":"2.0","method":"ping","params":{"interval":3000},"id":0}',
    'C← {"id":0,"result":{"value":"pong"},"jsonrpc":"2.0"}',
    'C→ {"jsonrpc":"2.0","method":"joinRoom","params":{"user":"alice","room":"lab"},"id":1}',
    'C← {"id":1,"result":{"value":[],"sessionId":"S1"},"jsonrpc":"2.0"}',
  ]);
  stream.publish();
  await settle();
  await replay([
    'C→ {"jsonrpc":"2.0","method":"publishVideo","params":{"sdpOffer":"v=0…","doLoopback":false},"id":2}',
    'C← {"method":"iceCandidate","params":{"endpointName":"alice","sdpMLineIndex":0,"sdpMid":"audio","candidate":"candidate:1 1 UDP …"},"jsonrpc":"2.0"}',
  ]);
  assert.deepEqual(FakePeerConnection.last.candidates, [], 'kept until the answer');
  await replay(['C← {"id":2,"result":{"sdpAnswer":"v=0…","sessionId":"S1"},"jsonrpc":"2.0"}']);
  assert.deepEqual(FakePeerConnection.last.candidates, [
    { candidate: 'candidate:1 1 UDP …', sdpMid: 'audio', sdpMLineIndex: 0 },
  ]);
  FakePeerConnection.last.onicecandidate({
    candidate: { candidate: 'candidate:…', sdpMid: 'audio', sdpMLineIndex: 0 },
  });
  await replay([
    'C→ {"jsonrpc":"2.0","method":"onIceCandidate","params":{"endpointName":"alice","candidate":"candidate:…","sdpMid":"audio","sdpMLineIndex":0},"id":3}',
    'C← {"id":3,"result":{"sessionId":"S1"},"jsonrpc":"2.0"}',
    'C← {"method":"participantJoined","params":{"id":"bob"},"jsonrpc":"2.0"}',
    'C← {"method":"sendMessage","params":{"room":"lab","user":"bob","message":"hi"},"jsonrpc":"2.0"}',
  ]);
  const closed = kurento.close();
  await replay([
    'C→ {"jsonrpc":"2.0","method":"leaveRoom","id":4}',
    'C← {"id":4,"result":{"sessionId":"S1"},"jsonrpc":"2.0"}',
  ]);
  await closed;
  assert.ok(server.socket.closed);
});

test('a subscriber talks as described', async () => {
  // No heartbeat: the dialogue shows none for this client.
  const kurento = KurentoRoom('wss://host/room', () => {}, { heartbeat: 0 });
  const room = kurento.Room({ room: 'lab', user: 'bob' });
  kurento.Stream(room, { data: true }).init();
  await server.accept();
  room.connect();
  await replay([
    'C→ {"jsonrpc":"2.0","method":"joinRoom","params":{"user":"bob","room":"lab","dataChannels":true},"id":0}',
    'C← {"id":0,"result":{"value":[{"id":"alice","streams":[{"id":"webcam"}]}],"sessionId":"S2"},"jsonrpc":"2.0"}',
    'C→ {"jsonrpc":"2.0","method":"receiveVideoFrom","params":{"sender":"alice_webcam","sdpOffer":"v=0…"},"id":1}',
    'C← {"id":1,"result":{"sdpAnswer":"v=0…","sessionId":"S2"},"jsonrpc":"2.0"}',
    'C← {"method":"iceCandidate","params":{"endpointName":"alice","sdpMLineIndex":1,"sdpMid":"video","candidate":"candidate:2 …"},"jsonrpc":"2.0"}',
  ]);
  assert.equal(FakePeerConnection.last.candidates[0].sdpMLineIndex, 1);
  kurento.sendMessage('lab', 'bob', 'hi');
  await replay([
    'C→ {"jsonrpc":"2.0","method":"sendMessage","params":{"message":"hi","userMessage":"bob","roomMessage":"lab"},"id":2}',
    'C← {"id":2,"result":{"sessionId":"S2"},"jsonrpc":"2.0"}',
    'C← {"method":"sendMessage","params":{"room":"lab","user":"bob","message":"hi"},"jsonrpc":"2.0"}',
    'C← {"method":"participantLeft","params":{"name":"alice"},"jsonrpc":"2.0"}',
  ]);
});

test('the other requests have the described shape', async () => {
  const kurento = KurentoRoom('wss://host/room', () => {}, { heartbeat: 0 });
  const room = kurento.Room({ room: 'lab', user: 'alice' });
  const stream = kurento.Stream(room, { id: 'webcam' });
  await server.accept();
  room.connect();
  await settle();
  await server.answer('joinRoom', { value: [{ id: 'my_bob', streams: [{ id: 'webcam' }] }] });
  await server.answer('receiveVideoFrom', { sdpAnswer: 'v=0…' });
  stream.subscribeToMyRemote();
  stream.publish();
  await settle();
  assert.equal((await server.answer('publishVideo', { sdpAnswer: 'v=0…' })).doLoopback, true);
  stream.unpublish();
  room.disconnect(room.getStreams()['my_bob_webcam']);
  kurento.sendCustomRequest({ hat: true }, () => {});
  kurento.setRpcParams({ token: 'T', user: 'mallory' });
  kurento.sendRequest('joinRoom', { user: 'alice' }, () => {});
  kurento.sendRequest('leaveRoom', () => {});
  assert.deepEqual(server.socket.take(), [
    '{"jsonrpc":"2.0","method":"unpublishVideo","id":3}',
    '{"jsonrpc":"2.0","method":"unsubscribeFromVideo","params":{"sender":"my_bob_webcam"},"id":4}',
    '{"jsonrpc":"2.0","method":"customRequest","params":{"hat":true},"id":5}',
    '{"jsonrpc":"2.0","method":"joinRoom","params":{"user":"alice","token":"T"},"id":6}',
    '{"jsonrpc":"2.0","method":"leaveRoom","params":{"token":"T","user":"mallory"},"id":7}',
  ]);
});
