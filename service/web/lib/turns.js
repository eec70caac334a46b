/** Calls that a server answers one at a time wait here for each other, and come again where it is busy. */

import { ApiError } from "./api.js";

const TRIES = 8;
let last = Promise.resolve();

/** Run `act` once those before it have ended; again, after the time that the server asks for, where it was busy. */
export function inTurn(act, signal) {
  const mine = last.then(() => persistent(act, signal));
  last = mine.catch(() => {});
  return mine;
}

async function persistent(act, signal) {
  for (let attempt = 1; ; attempt++) {
    signal?.throwIfAborted();
    try {
      return await act();
    } catch (error) {
      if (!(error instanceof ApiError) || error.status !== 503 || attempt === TRIES) throw error;
      await pause((error.retry || 1) * 1000, signal);
    }
  }
}

/** Wait; ends with the signal's reason where it is aborted before. */
export function pause(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, milliseconds);
    signal?.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(signal.reason);
    });
  });
}
