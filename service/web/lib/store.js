/** What the parts of the page share: each value has a name, and whoever listens to that name hears of its changes. */

export class Store extends EventTarget {
  #values = new Map();

  get(name) {
    return this.#values.get(name);
  }

  set(name, value) {
    if (this.#values.get(name) === value) return;
    this.#values.set(name, value);
    this.dispatchEvent(new Event(name));
  }

  /**
   * Call `listener` with the values now, and after each change of one of them, until `signal` is aborted.
   * @param {string|string[]} names
   */
  follow(names, listener, signal) {
    const list = [names].flat();
    const tell = () => listener(...list.map((name) => this.get(name)));
    for (const name of list) this.addEventListener(name, tell, { signal });
    tell();
  }
}
