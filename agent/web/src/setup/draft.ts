// What somebody has chosen of what a scan found. It outlives the page's parts: who leaves the wizard finds it again.
import { session } from "../core/session.ts";
import { Store } from "../core/store.ts";
import { type Entry, freeId, textOf } from "./schema.ts";
import type { Tested } from "./test.tsx";

export interface Found {
  kind: string;
  yaml: string;
  entry: object;
  configured: boolean;
  ready: boolean;
}
export interface Draft {
  chosen?: boolean;
  entry?: Entry;
  tested?: Tested;
  refused?: string;
}

export const drafts = new Store<Readonly<Record<string, Draft>>>({});
session.listen(() => {
  if (session.value.state !== "inside") drafts.value = {};
});

export const keyOf = (found: Found): string => `${found.kind} ${found.yaml}`;

export function note(found: Found, more: Draft): void {
  drafts.value = { ...drafts.value, [keyOf(found)]: { ...drafts.value[keyOf(found)], ...more } };
}

export interface Choice<F extends Found> {
  found: F;
  entry: Entry;
  chosen: boolean;
  tested: Tested | undefined;
  refused: string;
}

/** What was found, as it would be written: what is whole is chosen unless somebody says otherwise, and no two have one name. */
export function choices<F extends Found>(all: readonly F[], said: Readonly<Record<string, Draft>>, taken: readonly string[]): Choice<F>[] {
  const names = [...taken];
  return all.map((found) => {
    const draft = said[keyOf(found)] ?? {};
    let entry = draft.entry ?? (found.entry as Entry);
    if (!draft.entry && !found.configured && names.includes(textOf(entry["id"]))) entry = { ...entry, id: freeId(textOf(entry["id"]), names) };
    names.push(textOf(entry["id"]));
    const whole = found.ready || draft.entry !== undefined;
    return { found, entry, chosen: !found.configured && whole && (draft.chosen ?? true), tested: draft.tested, refused: draft.refused ?? "" };
  });
}
