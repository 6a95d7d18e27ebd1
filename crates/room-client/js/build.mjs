// Writes KurentoRoom.js, the build for a plain <script> tag. Run it after a change: node build.mjs

import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

/** In the order of their dependencies. */
const MODULES = ['errors', 'emitter', 'rpc', 'capture', 'peer', 'speaking', 'view', 'viewing', 'participant', 'stream', 'room', 'kurento-room'];

const HEADER = `// Room client for browsers, for a plain <script> tag. Made by build.mjs; do not edit.
// Globals: KurentoRoom, Room, Participant, Stream, jq.
(function (global) {
'use strict';
`;

const FOOTER = `
Object.assign(global, { KurentoRoom, Room, Participant, Stream, jq: (id) => '#' + CSS.escape(id) });
})(globalThis);
`;

export const TARGET = fileURLToPath(new URL('KurentoRoom.js', import.meta.url));

export function build() {
  const sources = MODULES.map((name) => {
    const source = readFileSync(new URL(`${name}.js`, import.meta.url), 'utf8');
    return source.replace(/^import .*\n/gm, '').replace(/^export /gm, '').trim();
  });
  const names = sources.join('\n').match(/^(?:async )?(?:const|let|class|function) \w+/gm).map((line) => line.split(' ').at(-1));
  const repeated = names.filter((name, index) => names.indexOf(name) !== index);
  if (repeated.length > 0) throw new Error(`declared in two modules: ${repeated}`);
  return `${HEADER}\n${sources.join('\n\n')}\n${FOOTER}`;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) writeFileSync(TARGET, build());
