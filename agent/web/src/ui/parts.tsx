// The few parts that all pages are made of. Texts go in as texts only; what can be done is a real button or link.
import type { ComponentChildren, JSX } from "preact";
import { useEffect, useId, useRef, useState } from "preact/hooks";
import { Refused } from "../core/api.ts";
import { refreshAll } from "../core/ask.ts";
import { live as liveText, scaled } from "../core/format.ts";
import { texts } from "../core/i18n.ts";
import { type Value, useLink } from "../core/live.ts";
import { Store, useStore } from "../core/store.ts";
import { Icon, type IconName } from "./icons.tsx";

const say = texts({
  en: { loading: "Loading …", empty: "Nothing here", failed: "Could not be read: {why}", close: "Close", cancel: "Cancel", stale: "old value", away: "no connection to the gateway" },
  es: { loading: "Cargando …", empty: "Nada por ahora", failed: "No se pudo leer: {why}", close: "Cerrar", cancel: "Cancelar", stale: "valor antiguo", away: "sin conexión con la pasarela" },
});

export type Tone = "good" | "bad" | "warn" | "info" | "dim";
type Children = { children?: ComponentChildren };

/** A titled box. `action`: what stands at the right of its title. */
export function Card({ title, icon, action, tone, wide, children }: Children & { title?: ComponentChildren; icon?: IconName; action?: ComponentChildren; tone?: Tone; wide?: boolean }): JSX.Element {
  const id = useId();
  return (
    <section class={`card ${tone ?? ""} ${wide ? "wide" : ""}`} aria-labelledby={title ? id : undefined}>
      {(title || action) && (
        <header>
          {title && (
            <h2 id={id}>
              {icon && <Icon name={icon} />}
              {title}
            </h2>
          )}
          {action}
        </header>
      )}
      {children}
    </section>
  );
}

/** A word with a colour; the colour never says anything that the word does not. */
export const Badge = ({ tone = "dim", children }: Children & { tone?: Tone }): JSX.Element => <span class={`badge ${tone}`}>{children}</span>;

/** What went wrong, told at once to who can't see it. */
export const Alert = ({ children, tone = "bad" }: Children & { tone?: Tone }): JSX.Element | null =>
  children ? (
    <p class={`alert ${tone}`} role={tone === "bad" ? "alert" : "status"}>
      {children}
    </p>
  ) : null;

/** Says while an answer is awaited, or why there is none; else shows what it is for. */
export function Await<T>({ of, empty, children }: { of: { data: T | undefined; error: Refused | undefined }; empty?: ComponentChildren; children: (data: T) => ComponentChildren }): JSX.Element {
  if (of.data === undefined) return of.error ? <Alert>{say("failed", { why: of.error.message })}</Alert> : <p class="dim" role="status">{say("loading")}</p>;
  const { items: list, total = 0 } = of.data as { items?: unknown[]; total?: number };
  // A page beyond the last one is none that is empty: its pager goes back.
  if (list && !list.length && !total) return <p class="dim">{empty ?? say("empty")}</p>;
  return <>{children(of.data)}</>;
}

/** A button that runs something that takes its time: busy meanwhile, its refusal told in the gateway's own words. */
export function Action({ run, children, kind = "plain", icon, label, disabled, done }: Children & {
  run: () => Promise<unknown>;
  kind?: "plain" | "main" | "danger" | "link";
  icon?: IconName;
  label?: string;
  disabled?: boolean;
  /** Told when it has worked. */
  done?: string;
}): JSX.Element {
  const [busy, setBusy] = useState(false);
  const act = async (): Promise<void> => {
    setBusy(true);
    try {
      await run();
      if (done) tell(done, "good");
    } catch (error) {
      tell(error instanceof Error ? error.message : String(error), "bad");
    } finally {
      setBusy(false);
      refreshAll();
    }
  };
  return (
    <button type="button" class={kind} aria-label={label} aria-busy={busy} disabled={disabled || busy} onClick={() => void act()}>
      {icon && <Icon name={icon} />}
      {children}
    </button>
  );
}

interface Toast {
  number: number;
  text: string;
  tone: Tone;
}
const toasts = new Store<readonly Toast[]>([]);
const TOAST_MS = 8_000;
let toastNumber = 0;

/** Tell the user something that needs no answer; what went wrong stays until it is closed. */
export function tell(text: string, tone: Tone = "info"): void {
  const toast = { number: ++toastNumber, text, tone };
  toasts.value = [...toasts.value.slice(-3), toast];
  if (tone !== "bad") setTimeout(() => untell(toast), TOAST_MS);
}

function untell(toast: Toast): void {
  toasts.value = toasts.value.filter((one) => one.number !== toast.number);
}

export function Toasts(): JSX.Element {
  return (
    <div class="toasts" aria-live="polite">
      {useStore(toasts).map((toast) => (
        <div key={toast.number} class={`toast ${toast.tone}`} role={toast.tone === "bad" ? "alert" : "status"}>
          {toast.text}
          <button type="button" class="link" aria-label={say("close")} onClick={() => untell(toast)}>
            <Icon name="close" />
          </button>
        </div>
      ))}
    </div>
  );
}

type Input = {
  name?: string;
  type?: "text" | "password" | "number" | "date" | "time" | "datetime-local" | "url" | "search" | "file" | "email" | "tel";
  value?: string | number;
  defaultValue?: string | number;
  autocomplete?: string;
  autocapitalize?: string;
  autofocus?: boolean;
  spellcheck?: boolean;
  required?: boolean;
  disabled?: boolean;
  readOnly?: boolean;
  min?: number | string;
  max?: number | string;
  step?: number | string;
  minLength?: number;
  maxLength?: number;
  pattern?: string;
  placeholder?: string;
  list?: string;
  inputMode?: "decimal" | "numeric" | "text" | "url" | "search";
  onInput?: (event: InputEvent & { currentTarget: HTMLInputElement }) => void;
};

/** A field of a form with its label, and what is wrong with it or what it means. */
export function Field({ label, hint, error, children, ...input }: Children & { label: string; hint?: ComponentChildren; error?: string | undefined } & Input): JSX.Element {
  const id = useId();
  const about = hint || error ? `${id}-about` : undefined;
  return (
    <div class="field">
      <label for={id}>{label}</label>
      {children ?? <input {...(input as JSX.IntrinsicElements["input"])} id={id} aria-describedby={about} aria-invalid={error ? true : undefined} />}
      {about && (
        <small id={about} class={error ? "bad" : "dim"}>
          {error || hint}
        </small>
      )}
    </div>
  );
}

/** One of few values. */
export function Choice<T extends string>({ label, value, of, set }: { label: string; value: T; of: Readonly<Record<T, string>>; set: (next: T) => void }): JSX.Element {
  const id = useId();
  return (
    <div class="field">
      <label for={id}>{label}</label>
      <select id={id} value={value} onChange={(event) => set(event.currentTarget.value as T)}>
        {(Object.entries(of) as [T, string][]).map(([key, text]) => (
          <option key={key} value={key} selected={key === value}>
            {text}
          </option>
        ))}
      </select>
    </div>
  );
}

/** A form: Enter sends it, its button is busy meanwhile, its refusal stands below it. */
export function Form({ send, button, children, cancel, ready = true }: Children & { send: (values: Record<string, string>) => Promise<unknown>; button: string; cancel?: () => void; ready?: boolean }): JSX.Element {
  const [busy, setBusy] = useState(false);
  const [refused, setRefused] = useState("");
  const submit = async (event: SubmitEvent): Promise<void> => {
    event.preventDefault();
    const form = event.currentTarget as HTMLFormElement;
    setBusy(true);
    setRefused("");
    try {
      await send(Object.fromEntries([...new FormData(form)].map(([key, value]) => [key, String(value)])));
    } catch (error) {
      setRefused(error instanceof Error ? error.message : String(error));
    } finally {
      setBusy(false);
      refreshAll();
    }
  };
  return (
    <form onSubmit={(event) => void submit(event as unknown as SubmitEvent)}>
      {children}
      <Alert>{refused}</Alert>
      <div class="actions">
        <button class="main" aria-busy={busy} disabled={busy || !ready}>
          {button}
        </button>
        {cancel && (
          <button type="button" onClick={cancel}>
            {say("cancel")}
          </button>
        )}
      </div>
    </form>
  );
}

/** A box above the page that keeps the keyboard inside; Escape and the button close it. Who opened it has the keyboard again. */
export function Dialog({ title, close, children }: Children & { title: string; close: () => void }): JSX.Element {
  const box = useRef<HTMLDialogElement>(null);
  const id = useId();
  useEffect(() => {
    const opener = document.activeElement;
    box.current?.showModal();
    return () => opener instanceof HTMLElement && opener.focus();
  }, []);
  return (
    <dialog ref={box} aria-labelledby={id} onClose={close}>
      <header>
        <h2 id={id}>{title}</h2>
        <button type="button" class="link" aria-label={say("close")} onClick={() => box.current?.close()}>
          <Icon name="close" />
        </button>
      </header>
      {children}
    </dialog>
  );
}

/** A figure with its unit, large; `stale`: it is not of now, and looks so. */
export function Figure({ value, unit, label, stale, tone }: { value: number | null | undefined; unit: string; label?: ComponentChildren; stale?: boolean; tone?: Tone }): JSX.Element {
  const [figure, name] = scaled(value, unit);
  return (
    <div class={`figure ${tone ?? ""} ${stale ? "stale" : ""}`} title={stale ? say("stale") : undefined}>
      {label && <span class="label">{label}</span>}
      <span class="number">
        {figure}
        <small> {name}</small>
      </span>
      {stale && <span class="hidden">({say("stale")})</span>}
    </div>
  );
}

/** A live value as text; looks stale while the connection is lost, its device is not online, or it is unknown. */
export function Live({ of, online = true }: { of: Value | undefined; online?: boolean }): JSX.Element {
  const stale = useLink() !== "live" || !online || of?.value === null || of === undefined;
  return (
    <span class={stale ? "stale" : ""} title={stale ? say("stale") : (of?.time ?? undefined)}>
      {liveText(of)}
    </span>
  );
}

/** A table that scrolls by itself on a narrow screen. `head`: the titles; a title that begins with `>` stands at the right. */
export function Table({ head, children, label }: Children & { head: readonly string[]; label: string }): JSX.Element {
  return (
    <div class="scroll" role="group" aria-label={label} tabIndex={0}>
      <table>
        <thead>
          <tr>
            {head.map((title) => (
              <th key={title} scope="col" class={title.startsWith(">") ? "value" : ""}>
                {title.replace(/^>/, "")}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>{children}</tbody>
      </table>
    </div>
  );
}

/** A bar from 0 to 100 %. */
export function Bar({ pct, label, tone = "good" }: { pct: number | null | undefined; label: string; tone?: Tone }): JSX.Element {
  const known = pct === null || pct === undefined ? 0 : Math.max(0, Math.min(100, pct));
  return <meter class={tone} min={0} max={100} value={known} aria-label={label} />;
}

/** Pages of a list: newer, older. Where the last page went, as with its only row, the one before it is shown. */
export function Pager({ page, size, total, set }: { page: number; size: number; total: number; set: (page: number) => void }): JSX.Element | null {
  const last = Math.max(1, Math.ceil(total / size));
  useEffect(() => {
    if (page > last) set(last);
  }, [page, last]);
  if (last <= 1) return null;
  return (
    <nav class="pager" aria-label={`${page} / ${last}`}>
      <button type="button" disabled={page <= 1} onClick={() => set(page - 1)} aria-label={`${page - 1} / ${last}`}>
        <Icon name="left" />
      </button>
      <span>
        {page} / {last}
      </span>
      <button type="button" disabled={page >= last} onClick={() => set(page + 1)} aria-label={`${page + 1} / ${last}`}>
        <Icon name="right" />
      </button>
    </nav>
  );
}

/** Said at the top of the page while the gateway is not heard. */
export function LinkNote(): JSX.Element | null {
  const link = useLink();
  return link === "lost" ? (
    <p class="linknote" role="alert">
      <Icon name="offline" /> {say("away")}
    </p>
  ) : null;
}
