// Times of an answer that go on while no newer one is there.
import { useEffect, useRef, useState } from "preact/hooks";

/** Seconds since `of` was another one; renders each second. */
export function useSince(of: unknown): number {
  const [, again] = useState(0);
  const when = useRef({ of, at: performance.now() });
  if (when.current.of !== of) when.current = { of, at: performance.now() };
  useEffect(() => {
    const timer = setInterval(() => again((count) => count + 1), 1_000);
    return () => clearInterval(timer);
  }, []);
  return (performance.now() - when.current.at) / 1_000;
}
