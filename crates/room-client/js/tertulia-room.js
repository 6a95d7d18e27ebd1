// Room client for browsers: everything an application may import.

export { KurentoRoom } from './kurento-room.js';
export { Room } from './room.js';
export { Participant } from './participant.js';
export { Stream } from './stream.js';
export { Peer } from './peer.js';
export { RpcClient } from './rpc.js';
export { SpeakingDetector } from './speaking.js';
export { Emitter } from './emitter.js';
export { RoomError, ErrorCode } from './errors.js';
