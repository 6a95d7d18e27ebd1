// Who is in the room, also without a picture, and whom one does not want to see.

import { byId, make } from './page.js';

/** `onshow(stream)` is called for a stream whose picture is to come back. */
export function showPeople(room, isShown, onshow) {
  const people = Object.values(room.getParticipants());
  people.sort((a, b) => a.getID().localeCompare(b.getID()));
  byId('people-list').replaceChildren(...people.map((participant) => {
    const own = participant === room.getLocalParticipant();
    const streams = Object.values(participant.getStreams());
    const item = make('li', {}, make('span', { className: 'who' }, participant.getID() + (own ? ' (you)' : '')));
    const hidden = own ? [] : streams.filter((stream) => !isShown(stream));
    if (hidden.length > 0) {
      item.append(make('button', { type: 'button', onclick: () => hidden.forEach(onshow) }, 'Show'));
    } else if (streams.length === 0 || !streams.some(isShown)) {
      item.append(make('span', { className: 'note' }, 'watching'));
    }
    return item;
  }));
}
