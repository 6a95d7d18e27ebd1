import assert from 'node:assert/strict';
import { beforeEach, test } from 'node:test';
import { RpcClient } from '../tertulia-room.js';
import { backOff } from '../rpc.js';
import { FakeWebSocket, installBrowser, server, settle, tick } from './fakes.mjs';

beforeEach(installBrowser);

function client(options = { heartbeatMs: 0 }) {
  const events = [];
  const rpc = new RpcClient('wss://host/room', {
    onopen: () => events.push('open'),
    onnotification: (method, params) => events.push([method, params]),
    onreconnecting: () => events.push('reconnecting'),
    onreconnected: ({ resumed }) => events.push(resumed ? 'resumed' : 'new session'),
    onclosed: (error) => events.push(`closed: ${error.message}`),
  }, options);
  return { rpc, events };
}

/** A client that knows its session. */
async function inSession(options) {
  const all = client(options);
  await server.accept();
  const joined = all.rpc.request('joinRoom', { user: 'alice' });
  await server.answer('joinRoom', { value: [] });
  await joined;
  server.socket.take();
  return all;
}

test('waits grow, jittered, up to five seconds', () => {
  const rows = [
    [0, 0, 0], [0, 1, 500], [1, 0, 500], [1, 1, 1000], [2, 1, 2000], [3, 1, 4000], [4, 1, 5000], [50, 1, 5000], [50, 0, 2500],
  ];
  for (const [attempt, random, expected] of rows) assert.equal(backOff(attempt, random), expected, `attempt ${attempt}`);
});

test('requests made before the connection is open are sent when it is', async () => {
  const { rpc } = client();
  rpc.request('joinRoom', { user: 'alice' });
  assert.deepEqual(server.socket.sent, []);
  await server.accept();
  assert.deepEqual(server.socket.take(), ['{"jsonrpc":"2.0","method":"joinRoom","params":{"user":"alice"},"id":0}']);
});

test('an error answer rejects with its code, message and data', async () => {
  const { rpc } = client();
  await server.accept();
  const request = rpc.request('joinRoom', {});
  server.say('{"id":0,"error":{"code":104,"message":"taken","data":7},"jsonrpc":"2.0"}');
  await assert.rejects(request, { code: 104, message: 'taken', data: 7 });
});

test('an unanswered request times out, and a late answer is dropped', async () => {
  const { rpc } = client();
  await server.accept();
  const request = rpc.request('sendMessage', {});
  const outcome = assert.rejects(request, { code: 801, message: 'Request has timed out' });
  await tick(15_000);
  await outcome;
  await server.say('{"id":0,"result":{},"jsonrpc":"2.0"}');
});

test('frames that make no sense are ignored', async () => {
  const { rpc, events } = client();
  await server.accept();
  const request = rpc.request('x');
  for (const frame of ['', '{', '[]', 'null', '7', '{"id":99,"result":{}}', '{"result":{}}']) await server.say(frame);
  await server.say('{"id":0,"result":{"value":"OK"},"jsonrpc":"2.0"}');
  assert.deepEqual(await request, { value: 'OK' });
  assert.deepEqual(events, ['open']);
});

test('an answer without result and error rejects', async () => {
  const { rpc } = client();
  await server.accept();
  const request = rpc.request('x');
  server.say('{"id":0,"jsonrpc":"2.0"}');
  await assert.rejects(request, { code: 802 });
});

test('pings every three seconds and tells the interval once', async () => {
  client({});
  await server.accept();
  await tick(3_000);
  await tick(3_000);
  assert.deepEqual(server.socket.take(), [
    '{"jsonrpc":"2.0","method":"ping","params":{"interval":3000},"id":0}',
    '{"jsonrpc":"2.0","method":"ping","id":1}',
    '{"jsonrpc":"2.0","method":"ping","id":2}',
  ]);
});

test('an unanswered ping replaces the socket', async () => {
  const { events } = client({});
  await server.accept();
  const first = server.socket;
  await tick(15_000);
  assert.ok(first.closed);
  assert.deepEqual(events, ['open', 'reconnecting']);
  await tick(0);
  assert.notEqual(server.socket, first);
});

test('a first connection that fails is reported, once, and not repeated', async () => {
  const { rpc, events } = client();
  await server.drop();
  await tick(60_000);
  assert.deepEqual(events, ['closed: Cannot connect to wss://host/room']);
  assert.equal(FakeWebSocket.all.length, 1);
  await assert.rejects(rpc.request('x'), { code: 803 });
});

test('a first connection that hangs is given up', async () => {
  const { events } = client();
  await tick(10_000);
  assert.equal(events.length, 1);
});

test('an address that is none is reported', async () => {
  const { events } = client({ WebSocket: class { constructor() { throw new SyntaxError('bad address'); } } });
  await settle();
  assert.deepEqual(events, ['closed: bad address']);
});

test('a lost socket is replaced and the session resumed', async () => {
  const { rpc, events } = await inSession();
  await server.drop();
  assert.equal(rpc.state, 'reconnecting');
  await tick(0);
  await server.accept();
  assert.deepEqual(server.socket.sent, ['{"jsonrpc":"2.0","method":"connect","params":{"sessionId":"S1"},"id":1}']);
  await server.answer('connect', { value: 'reconnection successful' });
  assert.deepEqual(events, ['open', 'reconnecting', 'resumed']);
});

test('the session is presented before the first ping of its socket', async () => {
  await inSession({});
  await server.drop();
  await tick(0);
  await server.accept();
  assert.deepEqual(server.socket.sent.map((frame) => JSON.parse(frame).method), ['connect', 'ping']);
  assert.deepEqual(JSON.parse(server.socket.sent[1]).params, { interval: 3000 });
});

test('unanswered requests are repeated byte for byte in a resumed session, new ones follow', async () => {
  const { rpc } = await inSession();
  const before = rpc.request('sendMessage', { message: 'hi' });
  const [frame] = server.socket.take();
  await server.drop();
  rpc.request('sendMessage', { message: 'there' });
  await tick(0);
  await server.accept();
  await server.answer('connect', {});
  assert.equal(server.socket.sent.length, 2);
  assert.equal(server.socket.sent[0], frame);
  await server.answer('sendMessage', {});
  await before;
});

test('a request whose missed answer is delivered late is not repeated', async () => {
  const { rpc, events } = await inSession({});
  const answered = rpc.request('sendMessage', { message: 'one' });
  const { id } = server.take('sendMessage');
  rpc.request('sendMessage', { message: 'two' });
  const [second] = server.socket.take();
  await server.drop();
  await tick(0);
  await server.accept();
  const ping = JSON.parse(server.socket.sent[1]);
  await server.answer('connect', {});
  await server.say(`{"id":${id},"result":{"sessionId":"S1"},"jsonrpc":"2.0"}`);
  assert.equal(rpc.state, 'reconnecting');
  server.socket.take();
  await server.say(`{"id":${ping.id},"result":{"value":"pong"},"jsonrpc":"2.0"}`);
  await answered;
  assert.deepEqual(server.socket.take(), [second]);
  assert.deepEqual(events, ['open', 'reconnecting', 'resumed']);
});

test('requests wait out an interruption longer than their time-out', async () => {
  const { rpc } = await inSession();
  const request = rpc.request('sendMessage', {});
  await server.drop();
  for (let refused = 0; refused < 6; refused += 1) {
    await tick(5_000);
    await server.drop();
  }
  await tick(5_000);
  await server.accept();
  await server.answer('connect', {});
  await server.answer('sendMessage', {});
  await request;
});

test('a session the server has forgotten rejects what was under way', async () => {
  const { rpc, events } = await inSession();
  const request = rpc.request('publishVideo', {});
  const outcome = assert.rejects(request, { code: 803 });
  await server.drop();
  await tick(0);
  await server.accept();
  await server.refuse('connect', 40007, 'reconnection error');
  await outcome;
  assert.deepEqual(events.at(-1), 'new session');
  await server.drop();
  await tick(0);
  await server.accept();
  assert.deepEqual(server.socket.sent, [], 'the forgotten session is not presented again');
});

test('the socket lost again during connect is replaced again', async () => {
  const { events } = await inSession();
  await server.drop();
  await tick(0);
  await server.accept();
  await server.drop();
  await tick(1_000);
  await server.accept();
  await server.answer('connect', {});
  assert.deepEqual(events, ['open', 'reconnecting', 'resumed']);
});

test('gives up after two minutes, once', async () => {
  const { rpc, events } = await inSession();
  const request = assert.rejects(rpc.request('x'), { code: 803 });
  await server.drop();
  for (let second = 0; second < 125; second += 1) {
    const { socket } = server;
    await tick(1_000);
    if (server.socket !== socket) await server.drop();
  }
  await request;
  assert.deepEqual(events, ['open', 'reconnecting', 'closed: The server cannot be reached']);
  const sockets = FakeWebSocket.all.length;
  await tick(600_000);
  assert.equal(FakeWebSocket.all.length, sockets);
});

test('close is final and silent', async () => {
  const { rpc, events } = await inSession();
  const request = assert.rejects(rpc.request('x'), { code: 803 });
  rpc.close();
  await request;
  assert.ok(server.socket.closed);
  await tick(600_000);
  assert.deepEqual(events, ['open']);
});

test('sessionId goes only into connect', async () => {
  const { rpc } = await inSession();
  rpc.request('leaveRoom');
  assert.deepEqual(server.socket.take(), ['{"jsonrpc":"2.0","method":"leaveRoom","id":1}']);
});
