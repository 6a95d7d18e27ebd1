import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { runInNewContext } from 'node:vm';
import { build, TARGET } from '../build.mjs';
import { FakeWebSocket } from './fakes.mjs';

test('the committed build is the one of these sources', () => {
  assert.equal(readFileSync(TARGET, 'utf8'), build());
});

test('the plain script defines the globals', () => {
  const page = { setTimeout, clearTimeout, setInterval, clearInterval, queueMicrotask, WebSocket: FakeWebSocket };
  runInNewContext(build(), page);
  for (const name of ['KurentoRoom', 'Room', 'Participant', 'Stream', 'jq']) {
    assert.equal(typeof page[name], 'function', name);
  }
  const kurento = page.KurentoRoom('wss://host/room', () => {});
  assert.ok(kurento instanceof page.KurentoRoom);
  kurento.close();
});
