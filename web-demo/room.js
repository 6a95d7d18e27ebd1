/* global KurentoRoom */
'use strict';

let kurento = null;

/** What the server says before it closes rooms, by its type. */
const CLOSING_REASONS = new Map([
  ['SERVER_SHUTDOWN', 'The server is shutting down. Join again when it is back.'],
  ['MEDIA_SERVER_LOST', 'The media server was restarted, and the call is lost. Join again.'],
]);

const byId = (id) => document.getElementById(id);

function show(stream) {
  const gid = stream.getGlobalID();
  if (byId(`video-${gid}`)) return;
  const figure = document.createElement('figure');
  figure.className = 'video';
  figure.id = `video-${gid}`;
  byId('participants').append(figure);
  stream.playOnlyVideo(figure, null);
  const caption = document.createElement('figcaption');
  caption.textContent = stream.getParticipant().getID();
  figure.append(caption);
}

function hide(stream) {
  byId(`video-${stream.getGlobalID()}`)?.remove();
}

function leave(problem = '') {
  kurento?.close();
  kurento = null;
  byId('participants').replaceChildren();
  byId('room').hidden = true;
  byId('join').hidden = false;
  byId('problem').textContent = problem;
}

function join(event) {
  event.preventDefault();
  byId('problem').textContent = '';
  const address = new URL('room', document.baseURI);
  address.protocol = address.protocol.replace('http', 'ws');
  KurentoRoom(address.href, (error, connection) => {
    if (error) {
      leave(error.message);
      return;
    }
    kurento = connection;
    const room = kurento.Room({ room: byId('roomName').value, user: byId('name').value });
    const localStream = kurento.Stream(room, { audio: true, video: true, data: true });
    localStream.addEventListener('access-accepted', () => room.connect());
    localStream.addEventListener('access-denied', () => leave('Camera and microphone cannot be used.'));
    room.addEventListener('room-connected', ({ streams }) => {
      byId('join').hidden = true;
      byId('room').hidden = false;
      byId('room-header').textContent = room.name;
      localStream.publish();
      streams.forEach(show);
    });
    room.addEventListener('stream-published', ({ stream }) => show(stream));
    room.addEventListener('stream-added', ({ stream }) => show(stream));
    room.addEventListener('stream-removed', ({ stream }) => hide(stream));
    room.addEventListener('error-room', ({ error: refusal }) => leave(refusal.message));
    let closingReason;
    room.addEventListener('error-media', ({ error: text }) => {
      closingReason = CLOSING_REASONS.get(text.split(':')[0]);
      byId('problem').textContent = closingReason ?? text;
    });
    room.addEventListener('participant-evicted', () => leave('You were removed from the room.'));
    room.addEventListener('room-closed', () => leave(closingReason ?? 'The room was closed.'));
    room.addEventListener('lost-connection', () => leave('The connection is lost.'));
    localStream.init();
  });
}

byId('join').addEventListener('submit', join);
byId('buttonLeaveRoom').addEventListener('click', () => leave());
window.addEventListener('pagehide', () => kurento?.close());
