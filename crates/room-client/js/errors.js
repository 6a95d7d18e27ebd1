// Errors as applications see them: `code` and `message` of the room protocol.

/** Codes the client itself gives; all others come from the server. */
export const ErrorCode = Object.freeze({
  /** The name is taken in this room. */
  EXISTING_USER: 104,
  /** The request was not answered in time. */
  TIMEOUT: 801,
  /** The answer cannot be used. */
  BAD_RESPONSE: 802,
  /** The connection, or the session it carried, was lost before the answer. */
  CONNECTION_LOST: 803,
  /** The server knows no such request. */
  METHOD_NOT_FOUND: -32601,
  /** The server no longer knows the session that `connect` asked for. */
  RECONNECTION: 40007,
});

export class RoomError extends Error {
  constructor(code, message, data) {
    super(message);
    this.name = 'RoomError';
    this.code = code;
    if (data !== undefined) this.data = data;
  }

  toJSON() {
    return { code: this.code, message: this.message, data: this.data };
  }
}

export function isConnectionLost(error) {
  return error instanceof RoomError && error.code === ErrorCode.CONNECTION_LOST;
}

/**
 * Marks a promise as looked after: every failure is also reported by an event, so an application
 * written with events must not see "unhandled rejection".
 */
export function quiet(promise) {
  promise.catch(() => {});
  return promise;
}

export function delay(milliseconds) {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}
