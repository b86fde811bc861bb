// The smallest store that does: a value, those who want to know when it is another, and a hook that renders with it.
import { useEffect, useState } from "preact/hooks";

export class Store<T> {
  private readonly listeners = new Set<() => void>();
  private kept: T;

  constructor(first: T) {
    this.kept = first;
  }

  get value(): T {
    return this.kept;
  }

  set value(next: T) {
    if (Object.is(next, this.kept)) return;
    this.kept = next;
    for (const listener of [...this.listeners]) listener();
  }

  listen(listener: () => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }
}

/** The store's value; the component renders again when it changes. */
export function useStore<T>(store: Store<T>): T {
  const [value, set] = useState(store.value);
  useEffect(() => {
    set(() => store.value);
    return store.listen(() => set(() => store.value));
  }, [store]);
  return value;
}
