/**
 * Replays the transcripts that all clients share (format: `../../transcripts/README.md`).
 *
 * `closing.txt` is absent: it is about `closeSession`, which this client never sends.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';

import { ErrorCode } from '../errors.js';
import { RpcClient } from '../rpc.js';
import { FakeWebSocket, installBrowser, settle, tick } from './fakes.mjs';

const TRANSCRIPTS = ['dialogue', 'notifications', 'requests', 'media_events', 'sessions'];
const SOCKET_WISHES = new Set(['opens a socket', 'drops the socket']);
const OUTCOME = /^(answer|error|timeout|lost) \d/;

/** A client under test with everything it sent, wished and told, in order. */
class Player {
  constructor(heartbeatMs) {
    const player = this;
    this.frames = [];
    this.events = [];
    this.wishes = [];
    this.outcomes = [];
    this.extra = {};
    class Socket extends FakeWebSocket {
      constructor(url) {
        super(url);
        player.socket = this;
        player.wishes.push('opens a socket');
      }

      send(frame) {
        player.frames.push(frame);
      }

      close() {
        player.wishes.push('drops the socket');
      }
    }
    this.rpc = new RpcClient('wss://x/room', {
      onopen() {},
      onnotification: (method, params) => this.events.push(`${method} ${JSON.stringify(params)}`),
      onreconnecting: () => this.events.push('reconnecting'),
      onreconnected: ({ resumed }) => this.events.push(resumed ? 'resumed' : 'session lost'),
      onclosed: () => this.events.push('end unreachable'),
    }, { heartbeatMs, WebSocket: Socket });
  }

  /** Makes a request; members that the application adds to every request come last. */
  ask({ id, method, params }) {
    const added = Object.entries(this.extra).filter(([key]) => !(key in (params ?? {})));
    const sent = added.length > 0 ? { ...params, ...Object.fromEntries(added) } : params;
    this.rpc.request(method, sent).then(
      (result) => this.answered(id, method, result),
      (error) => this.failed(id, error),
    );
  }

  answered(id, method, { sessionId, ...rest }) {
    if (method === 'leaveRoom') {
      queueMicrotask(() => {
        this.rpc.close();
        this.events.push('end left');
      });
    }
    const wrapped = Object.keys(rest).length === 1 && 'value' in rest
      && (typeof rest.value !== 'object' || Array.isArray(rest.value));
    this.outcomes.push(`answer ${id} ${JSON.stringify(wrapped ? rest.value : rest)}`);
  }

  failed(id, { code, message }) {
    const known = { [ErrorCode.TIMEOUT]: 'timeout', [ErrorCode.CONNECTION_LOST]: 'lost' }[code];
    this.outcomes.push(known ? `${known} ${id}` : `error ${id} ${code} ${message}`);
  }

  /** What a line `C1! …` must be the next of. */
  told(text) {
    if (SOCKET_WISHES.has(text)) return this.wishes.shift();
    return (OUTCOME.test(text) ? this.outcomes : this.events).shift();
  }

  /** The request of a line `C1→ …` as the application makes it, without what is added to it. */
  unadorned(frame) {
    const request = JSON.parse(frame);
    const params = Object.entries(request.params ?? {})
      .filter(([key, value]) => this.extra[key] !== value);
    const bare = params.length === 0 && Object.keys(this.extra).length > 0;
    return { ...request, params: bare || !request.params ? undefined : Object.fromEntries(params) };
  }

  assertSilent(where) {
    const rest = [this.frames, this.events, this.wishes, this.outcomes];
    assert.deepEqual(rest, [[], [], [], []], where);
  }
}

/** Lines that happen to a player. */
const HAPPENINGS = [
  [/^← (.*)$/, (player, frame) => player.socket.onmessage({ data: frame })],
  [/^ {2}socket opens$/, (player) => player.socket.onopen({})],
  [/^ {2}socket closed/, (player) => player.socket.onclose({})],
  [/^ {2}waits (\d+)$/, (_, milliseconds) => tick(Number(milliseconds))],
  [/^ {2}adds (.*)$/, (player, members) => { player.extra = JSON.parse(members); }],
  [/^ {2}asks (.*)$/, (player, request) => player.ask(JSON.parse(request))],
  [/^ {2}stops$/, (player) => player.rpc.close()],
];

async function replay(lines) {
  const players = new Map();
  for (const [number, line] of lines.entries()) {
    if (line === '' || line.startsWith('#')) continue;
    const where = `line ${number + 1}: ${line}`;
    const [name, rest] = [line.slice(0, 2), line.slice(2)];
    const starts = /^ {2}starts(?: heartbeat (\d+))?$/.exec(rest);
    if (starts) {
      players.set(name, new Player(Number(starts[1] ?? 0)));
      await settle();
      continue;
    }
    const player = players.get(name);
    if (rest.startsWith('→ ')) {
      const frame = rest.slice(2);
      if (player.frames.length === 0) {
        player.ask(player.unadorned(frame));
        await settle();
      }
      assert.equal(player.frames.shift(), frame, where);
    } else if (rest.startsWith('! ')) {
      assert.equal(player.told(rest.slice(2)), rest.slice(2), where);
    } else {
      player.assertSilent(where);
      const [pattern, happen] = HAPPENINGS.find(([each]) => each.test(rest))
        ?? assert.fail(`not understood: ${where}`);
      await happen(player, ...pattern.exec(rest).slice(1));
      if (rest === '  stops') players.delete(name);
      await settle();
    }
  }
  for (const player of players.values()) player.assertSilent('at the end');
}

for (const name of TRANSCRIPTS) {
  test(`replays ${name}.txt`, async () => {
    installBrowser();
    const file = new URL(`../../transcripts/${name}.txt`, import.meta.url);
    await replay(readFileSync(file, 'utf8').split('\n'));
  });
}
