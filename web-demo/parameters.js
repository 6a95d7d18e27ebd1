// The parameters of the address; index.html lists them.

export function readParameters(search = location.search, hash = location.hash) {
  const query = new URLSearchParams(search);
  const size = /^(\d+)x(\d+)$/.exec(query.get('video') ?? '');
  return {
    name: query.get('name') ?? '',
    room: roomOfHash(hash) ?? query.get('room') ?? '',
    join: query.get('join') === '1',
    media: ['both', 'audio', 'none'].includes(query.get('media')) ? query.get('media') : 'both',
    video: size ? { width: Number(size[1]), height: Number(size[2]) } : null,
    codec: query.get('codec') ?? undefined,
    simulcast: query.get('simulcast') !== '0',
    adaptive: query.get('adaptive') !== '0',
    loopback: query.get('loopback') === '1',
    data: query.get('data') === '1',
  };
}

/** `#/rooms/lab` is the link to share, `#/rooms/lab/call` the call itself. */
export function callHash(room) {
  return `#/rooms/${encodeURIComponent(room)}/call`;
}

export function isCallHash(hash = location.hash) {
  return /^#\/rooms\/.+\/call$/.test(hash);
}

export function roomOfHash(hash = location.hash) {
  const match = /^#\/rooms\/(.+?)(?:\/call)?$/.exec(hash);
  if (!match) return null;
  try {
    return decodeURIComponent(match[1]);
  } catch {
    return match[1];
  }
}
