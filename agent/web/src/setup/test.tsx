// A device is read once, and what came of it is shown.
import type { ComponentChildren, JSX } from "preact";
import { useState } from "preact/hooks";
import { type Answer, post } from "../core/api.ts";
import { live, number } from "../core/format.ts";
import { texts } from "../core/i18n.ts";
import { told } from "../core/told.ts";
import { Icon } from "../ui/icons.tsx";
import { Alert } from "../ui/parts.tsx";
import type { Entry } from "./schema.ts";

const say = texts({
  en: { test: "Test", again: "Test again", testing: "It is being read: this takes up to {seconds} s …", answers: "It answers", silent: "It does not answer", took: "in {seconds} s", values: "{count} values" },
  es: { test: "Probar", again: "Probar de nuevo", testing: "Se está leyendo: tarda hasta {seconds} s …", answers: "Responde", silent: "No responde", took: "en {seconds} s", values: "{count} valores" },
});

export type Tested = Answer<"/api/devices/test", "post">;
const TEST_MS = 60_000;
const SHOWN = 12;

/** Of a configured device, or of an entry that is not written yet. */
export const tryDevice = (id: string): Promise<Tested> => post("/api/devices/{device_id}/test", { params: { device_id: id }, signal: AbortSignal.timeout(TEST_MS) });
export const tryEntry = (entry: Entry): Promise<Tested> => post("/api/devices/test", { body: entry as never, signal: AbortSignal.timeout(TEST_MS) });

export function TestResult({ of }: { of: Tested }): JSX.Element {
  const sure = of.ok && !of.hint; // what answers and tells what can hardly be is no success
  return (
    <div class={`alert ${sure ? "good" : "warn"}`} role="status">
      <strong>
        <Icon name={sure ? "check" : "warn"} /> {say(of.ok ? "answers" : "silent")} <small>{say("took", { seconds: number(of.seconds, 1) })}</small>
      </strong>
      <div>{told(of.text)}</div>
      {of.hint && <div>→ {told(of.hint)}</div>}
      {of.values.length > 0 && (
        <details class="more" open={of.values.length <= SHOWN}>
          <summary>{say("values", { count: of.values.length })}</summary>
          <ul class="tiles">
            {of.values.map((one) => (
              <li key={one.point}>
                <span>
                  {one.point} <strong>{live({ value: one.value, label: one.label, unit: one.unit })}</strong>
                </span>
              </li>
            ))}
          </ul>
        </details>
      )}
    </div>
  );
}

/** A button that tests, what stands beside it, and its result below. `done` is told of it; `patience_s`: when the gateway gives up. */
export function Test({ run, patience_s, done, disabled, children }: { run: () => Promise<Tested>; patience_s: number; done?: (came: Tested) => void; disabled?: boolean; children?: ComponentChildren }): JSX.Element {
  const [busy, setBusy] = useState(false);
  const [came, setCame] = useState<Tested>();
  const [refused, setRefused] = useState("");
  const test = async (): Promise<void> => {
    setBusy(true);
    setRefused("");
    setCame(undefined);
    try {
      const tested = await run();
      setCame(tested);
      done?.(tested);
    } catch (error) {
      setRefused(error instanceof Error ? error.message : String(error));
    } finally {
      setBusy(false);
    }
  };
  return (
    <div class="test">
      <div class="actions">
        <button type="button" aria-busy={busy} disabled={busy || disabled} onClick={() => void test()}>
          <Icon name="lab" /> {say(came || refused ? "again" : "test")}
        </button>
        {children}
      </div>
      {busy && (
        <div role="status">
          <small class="dim">{say("testing", { seconds: patience_s })}</small>
          <progress aria-label={say("testing", { seconds: patience_s })} />
        </div>
      )}
      {came && <TestResult of={came} />}
      <Alert>{refused}</Alert>
    </div>
  );
}
