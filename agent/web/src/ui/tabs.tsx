// Parts of a page that has several: links, so that the browser's way back, a bookmark and the keyboard work as everywhere.
import type { JSX } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { place, to } from "../core/route.ts";
import { useStore } from "../core/store.ts";

/** Which of the parts is asked for by `?tab=`; the first where none is. */
export function useTab<T extends string>(known: readonly [T, ...T[]]): T {
  const asked = useStore(place).query.get("tab");
  return known.find((one) => one === asked) ?? known[0];
}

/** The parts with their titles and, where there is something to count, how many. */
export function Tabs<T extends string>({ page, label, tabs, at }: { page: string; label: string; tabs: readonly (readonly [T, string, number?])[]; at: T }): JSX.Element {
  const bar = useRef<HTMLElement>(null);
  useEffect(() => {
    bar.current?.querySelector("[aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });
  }, [at]);
  return (
    <nav ref={bar} class="tabs" aria-label={label}>
      {tabs.map(([key, title, count], index) => (
        <a key={key} href={to(page, "", index ? { tab: key } : {})} aria-current={key === at ? "page" : undefined}>
          {title}
          {count ? <span class="many">{count}</span> : null}
        </a>
      ))}
    </nav>
  );
}
