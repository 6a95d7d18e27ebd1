// An application server as Kurento's tutorials have it: the official client drives the media server, pages with
// the official kurento-utils are the other end.
//
//     node application.mjs FOLDER-WITH-node_modules ws://HOST:PORT/kurento
//
// Pages say what they are in their address: role=loopback, caller, callee, presenter, viewer, data, recorded or
// audience. The last two have a file, whose address is in the page's, too.

import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import path from 'node:path';

import { bundle } from './bundle.mjs';

const [folder, uri] = process.argv.slice(2);
const require = createRequire(path.resolve(folder, 'package.json'));
const kurento = require('kurento-client');
const { version } = require('kurento-client/package.json');

// What tutorials of that generation subscribe to.
const is6 = version.startsWith('6.');
const CANDIDATE = is6 ? 'OnIceCandidate' : 'IceCandidateFound';
const EVENTS = is6
    ? ['MediaStateChanged', 'MediaFlowInStateChange', 'ConnectionStateChanged', 'IceComponentStateChange', 'NewCandidatePairSelected', 'DataChannelOpen', 'DataChannelClose']
    : ['MediaStateChanged', 'MediaFlowInStateChanged', 'ConnectionStateChanged', 'IceComponentStateChanged', 'NewCandidatePairSelected', 'DtlsConnectionStateChange', 'DataChannelOpened', 'DataChannelClosed'];

const FILE_EVENTS = {
    RecorderEndpoint: ['Error', 'UriEndpointStateChanged', 'Recording', 'Paused', 'Stopped'],
    PlayerEndpoint: ['Error', 'UriEndpointStateChanged', 'EndOfStream'],
};

/** Pages by id: their endpoint, what the media server told of it, and where candidates for them go. */
const peers = new Map();
/** Pipelines by what they are for, as promises, so that two who come together share one. */
const pipelines = new Map();
let client;

function peer(id) {
    if (!peers.has(id)) peers.set(id, { id, candidates: [], early: [], events: [] });
    return peers.get(id);
}

function pipeline(name) {
    if (!pipelines.has(name)) pipelines.set(name, client.create('MediaPipeline'));
    return pipelines.get(name);
}

async function endpoint(pipeline, peer, options = {}) {
    const made = await pipeline.create('WebRtcEndpoint', options);
    made.on(CANDIDATE, ({ candidate }) => {
        const found = kurento.getComplexType('IceCandidate')(candidate);
        if (peer.stream) peer.stream.write(`data: ${JSON.stringify(found)}\n\n`);
        else peer.candidates.push(found);
    });
    for (const type of EVENTS) made.on(type, (event) => peer.events.push({ ...event, type }));
    peer.endpoint = made;
    for (const candidate of peer.early) await made.addIceCandidate(candidate);
    return made;
}

/** Gives the page a recorder or player. */
async function file(pipeline, peer, type, options) {
    const made = await pipeline.create(type, options);
    // An error says in `type` what failed.
    for (const name of FILE_EVENTS[type]) made.on(name, (event) => peer.events.push({ ...event, event: name }));
    peer.file = made;
    return made;
}

/** What each role does with the page's endpoint. */
const ROLES = {
    async loopback(peer) {
        const made = await endpoint(await pipeline(`loopback ${peer.id}`), peer);
        await made.connect(made);
    },
    async data(peer) {
        const made = await endpoint(await pipeline(`data ${peer.id}`), peer, { useDataChannels: true });
        await made.connect(made);
    },
    async caller(peer) {
        await endpoint(await pipeline('call'), peer);
    },
    async callee(callee) {
        const made = await endpoint(await pipeline('call'), callee);
        const caller = peer('caller').endpoint;
        await caller.connect(made);
        await made.connect(caller);
    },
    async presenter(peer) {
        await endpoint(await pipeline('broadcast'), peer);
    },
    async viewer(viewer) {
        const made = await endpoint(await pipeline('broadcast'), viewer);
        await peer('presenter').endpoint.connect(made);
    },
    async recorded(peer, { uri, mediaProfile }) {
        const made = await endpoint(await pipeline('files'), peer);
        const recorder = await file(await pipeline('files'), peer, 'RecorderEndpoint', { uri, mediaProfile });
        await made.connect(recorder);
    },
    async audience(peer, { uri }) {
        const made = await endpoint(await pipeline('files'), peer);
        const player = await file(await pipeline('files'), peer, 'PlayerEndpoint', { uri });
        await player.connect(made);
    },
};

const CALLS = {
    async offer({ id, role, sdp, options }) {
        const page = peer(id);
        await ROLES[role](page, options);
        const answer = await page.endpoint.processOffer(sdp);
        await page.endpoint.gatherCandidates();
        return { answer };
    },
    async candidate({ id, candidate }) {
        const page = peer(id);
        const typed = kurento.getComplexType('IceCandidate')(candidate);
        if (page.endpoint) await page.endpoint.addIceCandidate(typed);
        else page.early.push(typed);
        return {};
    },
    /** The page leaves; its endpoint goes. */
    async leave({ id }) {
        await peers.get(id)?.endpoint?.release();
        peers.delete(id);
        return {};
    },
    /** Everything ends. Returns how many pipelines the media server still has. */
    async end() {
        for (const made of pipelines.values()) await (await made).release();
        pipelines.clear();
        peers.clear();
        const manager = await client.getServerManager();
        return { pipelines: (await manager.getPipelines()).length };
    },
    /** An operation of the page's recorder or player. */
    async file({ id, operation, values = [] }) {
        return await peer(id).file[operation](...values);
    },
    async events({ id }) {
        return peer(id).events;
    },
    async stats({ id }) {
        return await peer(id).endpoint.getStats();
    },
    async state({ id }) {
        const { endpoint } = peer(id);
        return {
            media: await endpoint.getMediaState(),
            connection: await endpoint.getConnectionState(),
            name: await endpoint.getName(),
            pairs: await endpoint.getICECandidatePairs(),
            flowing: await endpoint.isMediaFlowingIn('VIDEO'),
        };
    },
    async info() {
        const manager = await client.getServerManager();
        const info = await manager.getInfo();
        return { version: info.version, modules: info.modules.map(({ name }) => name) };
    },
};

async function respond(request, response) {
    const { pathname, searchParams } = new URL(request.url, 'http://localhost');
    if (request.method === 'POST') {
        const chunks = [];
        for await (const chunk of request) chunks.push(chunk);
        const call = CALLS[pathname.slice(1)];
        const result = await call(JSON.parse(Buffer.concat(chunks).toString() || '{}'));
        response.setHeader('content-type', 'application/json');
        return response.end(JSON.stringify(result ?? null));
    }
    switch (pathname) {
        case '/':
            response.setHeader('content-type', 'text/html; charset=utf-8');
            return response.end(await readFile(new URL('page.html', import.meta.url)));
        case '/kurento-utils.js':
            response.setHeader('content-type', 'text/javascript; charset=utf-8');
            return response.end(bundle(path.resolve(folder), 'kurento-utils', 'kurentoUtils'));
        case '/candidates': {
            const page = peer(searchParams.get('id'));
            response.setHeader('content-type', 'text/event-stream');
            response.flushHeaders();
            for (const found of page.candidates.splice(0)) response.write(`data: ${JSON.stringify(found)}\n\n`);
            page.stream = response;
            return;
        }
        default:
            response.statusCode = 404;
            response.end();
    }
}

const server = createServer((request, response) => {
    respond(request, response).catch((error) => {
        console.error(request.url, error);
        response.statusCode = 500;
        response.end(String(error?.stack ?? error));
    });
});
client = await kurento(uri);
server.listen(0, '127.0.0.1', () => console.error(`kurento-client ${version} at http://localhost:${server.address().port}`));
