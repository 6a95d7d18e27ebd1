// From an interrupted connection back into the room.

import assert from 'node:assert/strict';
import { beforeEach, test } from 'node:test';
import { ANSWER, BOB, connected, FakePeerConnection, installBrowser, joined, names, server, settle, tick } from './fakes.mjs';

beforeEach(installBrowser);

const CAROL = { id: 'carol', streams: [{ id: 'webcam' }] };

/** Alice publishes and receives what `peers` publish. */
async function talking(peers = [BOB], options = { legacyUnpublishAsLeft: false }) {
  const all = await joined(peers, options);
  for (const { streams } of peers) if (streams) await server.answer('receiveVideoFrom', ANSWER);
  const stream = all.kurento.Stream(all.room, {});
  stream.publish();
  await settle();
  await server.answer('publishVideo', ANSWER);
  all.log.length = 0;
  return { ...all, stream };
}

async function newSocket() {
  await tick(0);
  await server.accept();
}

test('within the grace period nothing changes but the socket', async () => {
  const { log } = await talking();
  const peers = FakePeerConnection.all.length;
  await server.drop();
  assert.deepEqual(log, [['reconnecting', { room: 'lab' }]]);
  await newSocket();
  await server.answer('connect', { value: 'reconnection successful' });
  assert.deepEqual(log.slice(1), [['reconnected', { room: 'lab', resumed: true }]]);
  assert.deepEqual(server.requests(), []);
  assert.equal(FakePeerConnection.all.length, peers);
  assert.ok(FakePeerConnection.all.every(({ closed }) => !closed));
});

test('notifications replayed before the answer of connect are applied', async () => {
  const { log } = await talking();
  await server.drop();
  await newSocket();
  await server.notify('participantJoined', { id: 'bob' });
  await server.notify('participantJoined', { id: 'carol' });
  await server.answer('connect', {});
  await server.notify('participantLeft', { name: 'bob' });
  assert.deepEqual(names(log), ['reconnecting', 'participant-joined', 'reconnected', 'participant-left', 'stream-removed']);
});

test('a forgotten session is joined again, published and subscribed again', async () => {
  const { log, room, stream } = await talking([BOB, CAROL, { id: 'dave' }]);
  const bob = room.getStreams().bob_webcam;
  const media = stream.getLocalMediaStream();
  await server.drop();
  await newSocket();
  await server.refuse('connect', 40007, 'reconnection error');
  // Meanwhile carol has left, dave publishes, erin has come.
  await server.answer('joinRoom', {
    value: [BOB, { id: 'dave', streams: [{ id: 'webcam' }] }, { id: 'erin' }],
  }, 'S2');
  assert.deepEqual(names(log), [
    'reconnecting', 'participant-left', 'stream-removed', 'reconnected',
    'participant-published', 'stream-added', 'participant-joined',
  ]);
  assert.deepEqual(log[3][1], { room: 'lab', resumed: false });
  assert.equal((await server.answer('publishVideo', ANSWER, 'S2')).doLoopback, false);
  const senders = [];
  for (let each = 0; each < 2; each += 1) senders.push((await server.answer('receiveVideoFrom', ANSWER, 'S2')).sender);
  assert.deepEqual(senders.sort(), ['bob_webcam', 'dave_webcam']);
  assert.deepEqual(names(log.slice(7)).sort(), ['stream-published', 'stream-subscribed', 'stream-subscribed']);
  assert.equal(room.getStreams().bob_webcam, bob, 'the same object');
  assert.equal(stream.getLocalMediaStream(), media, 'the same camera');
  assert.equal(FakePeerConnection.all.filter(({ closed }) => !closed).length, 3);

  await server.drop();
  await newSocket();
  assert.deepEqual(server.take('connect').params, { sessionId: 'S2' });
});

test('who no longer publishes after the return is reported as unpublished', async () => {
  const { log, room } = await talking();
  await server.drop();
  await newSocket();
  await server.refuse('connect', 40007, 'reconnection error');
  await server.answer('joinRoom', { value: [{ id: 'bob' }] });
  assert.deepEqual(names(log), ['reconnecting', 'participant-unpublished', 'stream-unpublished', 'reconnected']);
  assert.ok(room.getParticipants().bob);
});

test('what was unsubscribed stays so', async () => {
  const { room } = await talking();
  room.disconnect(room.getStreams().bob_webcam);
  await server.answer('unsubscribeFromVideo', {});
  await server.drop();
  await newSocket();
  await server.refuse('connect', 40007, 'reconnection error');
  await server.answer('joinRoom', { value: [BOB] });
  assert.deepEqual(server.requests().map(({ method }) => method), ['publishVideo']);
});

test('the own name is waited for while the lost session still holds it', async () => {
  const { log } = await talking();
  await server.drop();
  await newSocket();
  await server.refuse('connect', 40007, 'reconnection error');
  for (let refused = 0; refused < 4; refused += 1) {
    await server.refuse('joinRoom', 104, "User 'alice' already exists in room 'lab'");
    await tick(2_000);
  }
  await server.answer('joinRoom', { value: [BOB] });
  assert.deepEqual(names(log).slice(0, 2), ['reconnecting', 'reconnected']);
});

test('a name that stays taken ends the room', async () => {
  const { log } = await talking();
  await server.drop();
  await newSocket();
  await server.refuse('connect', 40007, 'reconnection error');
  for (let refused = 0; refused < 11; refused += 1) {
    await server.refuse('joinRoom', 104, 'taken');
    await tick(2_000);
  }
  assert.deepEqual(names(log), ['reconnecting', 'error-room', 'lost-connection']);
  assert.deepEqual(server.requests(), []);
});

test('notifications during the return are applied after it', async () => {
  const { log } = await talking();
  await server.drop();
  await newSocket();
  await server.refuse('connect', 40007, 'reconnection error');
  await server.notify('participantLeft', { name: 'bob' });
  assert.deepEqual(names(log), ['reconnecting']);
  await server.answer('joinRoom', { value: [BOB] });
  assert.deepEqual(names(log).slice(1), ['reconnected', 'participant-left', 'stream-removed']);
});

test('the connection lost again while joining again', async () => {
  const { log } = await talking();
  await server.drop();
  await newSocket();
  await server.refuse('connect', 40007, 'reconnection error');
  server.take('joinRoom');
  await server.drop();
  await newSocket();
  await server.answer('joinRoom', { value: [BOB] });
  assert.deepEqual(names(log).slice(0, 2), ['reconnecting', 'reconnected']);
});

test('a publication interrupted by the loss is completed after it', async () => {
  const { kurento, room, log } = await joined();
  const stream = kurento.Stream(room, {});
  let done = false;
  stream.publish().then(() => {
    done = true;
  });
  await settle();
  server.take('publishVideo');
  await server.drop();
  await newSocket();
  await server.refuse('connect', 40007, 'reconnection error');
  await server.answer('joinRoom', { value: [] });
  assert.equal(done, false);
  await server.answer('publishVideo', ANSWER);
  assert.ok(done);
  assert.deepEqual(names(log), ['reconnecting', 'reconnected', 'stream-published']);
  assert.deepEqual(server.requests(), []);
});

test('a join interrupted by the loss is completed after it', async () => {
  const { room, log } = await connected();
  const joining = room.connect();
  server.take('joinRoom');
  await server.drop();
  await newSocket();
  await server.refuse('joinRoom', 104, 'the lost session holds the name');
  await tick(2_000);
  await server.answer('joinRoom', { value: [BOB] });
  await joining;
  assert.deepEqual(names(log), ['room-connected']);
});

test('peers that act during the join are merged into its result', async () => {
  const { room, log } = await connected();
  room.connect();
  await server.notify('participantPublished', BOB);
  await server.notify('participantLeft', { name: 'carol' });
  await server.answer('joinRoom', { value: [{ id: 'bob' }, CAROL] });
  assert.deepEqual(names(log), ['room-connected', 'participant-published', 'stream-added', 'participant-left', 'stream-removed']);
});

test('lost-connection comes once, when the connection is given up', async () => {
  const { log } = await talking();
  await server.drop();
  for (let second = 0; second < 130; second += 1) {
    const { socket } = server;
    await tick(1_000);
    if (server.socket !== socket) await server.drop();
  }
  assert.deepEqual(log, [['reconnecting', { room: 'lab' }], ['lost-connection', { room: 'lab' }]]);
  assert.ok(FakePeerConnection.all.every(({ closed }) => closed));
});

test('an evicted user is not brought back', async () => {
  const { log } = await talking();
  await server.notify('participantEvicted', {});
  await server.drop();
  await newSocket();
  await server.refuse('connect', 40007, 'reconnection error');
  assert.deepEqual(names(log), ['participant-evicted']);
  assert.deepEqual(server.requests(), []);
});

test('leaving during an interruption ends it', async () => {
  const { kurento, log } = await talking();
  await server.drop();
  await kurento.close();
  const { socket } = server;
  await tick(600_000);
  assert.equal(server.socket, socket);
  assert.deepEqual(names(log), ['reconnecting']);
});
